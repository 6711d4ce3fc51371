"""`cmmixer doctor`: is all here that the package needs, and does it work on this machine?"""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from .health import CHECKS, Finding


@dataclass
class DoctorSettings:
    """Check versions, devices, decoders and extras, and that clips, models and the cache work."""

    json: bool = field(default=False, metadata={"help": "print JSON instead of text"})


def run_doctor(settings: DoctorSettings) -> int:
    """Print what was found. Returns 1 where something essential failed, else 0."""
    report = examine()
    failed = any(finding.state == "failed" for findings in report.values() for finding in findings)
    if settings.json:
        print(json.dumps({section: [asdict(finding) for finding in report[section]] for section in report}, indent=2))
    else:
        print(_as_text(report))
    return int(failed)


def examine() -> dict[str, list[Finding]]:
    """All findings, by section; a check that breaks is a finding."""
    return {section: list(_guarded(check)) for section, check in CHECKS.items()}


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except Exception as error:  # noqa: BLE001 - whatever is broken is what a doctor reports
        about = " ".join(f"{type(error).__name__}: {error}".split())
        yield Finding(check.__name__.removeprefix("check_"), "failed", about, "mend what it names, or install again")


def _as_text(report: dict[str, list[Finding]]) -> str:
    marks = {"ok": "ok", "missing": "--", "failed": "FAILED"}
    width = max(len(finding.name) for findings in report.values() for finding in findings)
    lines = []
    for section, findings in report.items():
        lines += ["", section]
        for finding in findings:
            lines.append(f"  {marks[finding.state]:<6}  {finding.name:<{width}}  {finding.detail}")
            if finding.advice:
                lines.append(f"  {'':<6}  {'':<{width}}  -> {finding.advice}")
    failed = [finding.name for findings in report.values() for finding in findings if finding.state == "failed"]
    verdict = f"Does not work yet: {', '.join(failed)}." if failed else "Everything that is needed works."
    return "\n".join([*lines[1:], "", verdict])
