"""`cmmixer doctor`: is all here that the package needs, and does it work on this machine?"""

import importlib
import importlib.util
import json
import math
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from . import __version__
from .settings import DoctorSettings

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from .media.reading import Clip


# What an extra of setup.cfg gives.
EXTRAS = {
    "index": "a search index on FAISS, for `cmmixer index` and `cmmixer search`",
    "demo": "`cmmixer demo` and its report with pictures",
    "app": "the demo page in a browser",
    "mcp": "the demo page as tools for other programs",
    "export": "models as ONNX",
    "hub": "search with PE-AV or any Sentence Transformer that takes video or audio",
    "lora": "training low-rank adapters",
    "milvus": "a search index on Milvus, up to a cluster",
    "ray": "preparing clips on many machines",
    "sentence": "a retriever as a Sentence Transformer",
    "tracking": "training curves in TensorBoard, Trackio or Weights & Biases",
}
DECODERS = ("h264", "hevc", "vp9", "libdav1d", "mpeg4", "aac", "mp3", "opus", "vorbis", "flac", "pcm_s16le")
# Packages that are not needed, but break datasets or transformers where they are installed and do not load.
FRAGILE = ("torchcodec", "torchvision", "torchaudio")


@dataclass(frozen=True)
class Finding:
    """One line of the report; `failed` is what keeps the package from working, `missing` what it can do without."""

    name: str
    state: Literal["ok", "missing", "failed"]
    detail: str
    advice: str = ""


def check_packages() -> Iterator[Finding]:
    """What is always needed, by the requirements of the installed package."""
    yield Finding("cmmixer_hf", "ok", __version__)
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.platform()}")
    for requirement in _requirements(""):
        installed, advice = _version(requirement.name), f'pip install "{requirement}"'
        if installed is None:
            yield Finding(requirement.name, "failed", "not installed", advice)
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield Finding(requirement.name, "failed", f"{installed} is too old", advice)
        else:
            yield Finding(requirement.name, "ok", installed)
    for name in FRAGILE:
        if importlib.util.find_spec(name):
            yield _fragile(name)


def _fragile(name: str) -> Finding:
    try:
        importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        advice = f"pip uninstall {name}: we do not need it, and datasets and transformers fail where it is broken"
        return Finding(name, "failed", f"{_version(name)} does not load: {' '.join(str(error).split())[:120]}", advice)
    return Finding(name, "ok", f"{_version(name)}, which is not needed")


def check_devices() -> Iterator[Finding]:
    """What models can run on."""
    import torch

    yield Finding("cpu", "ok", f"{torch.get_num_threads()} threads")
    for number in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(number)
        halves = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        yield Finding(f"cuda:{number}", "ok", f"{about.name}, {about.total_memory / 2**30:.0f} GiB, {halves}")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "Apple GPU")
    if not torch.accelerator.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for CPUs alone"
        advice = "training at full size needs one; the rest works without"
        yield Finding("gpu", "missing", f"none; this torch is built {built}", advice)


def check_decoding() -> Iterator[Finding]:
    """What media can be read."""
    import av
    from av.codec import Codec

    yield Finding("FFmpeg", "ok", f"{av.ffmpeg_version_info}, in PyAV")
    missing = []
    for name in DECODERS:
        try:
            Codec(name, "r")
        except ValueError:
            missing.append(name)
    if missing:
        advice = (
            "files coded so cannot be read; PyAV's wheels from PyPI have all of them: pip install --force-reinstall av"
        )
        yield Finding("decoders", "missing", ", ".join(missing), advice)
    yield Finding("decoders", "ok", ", ".join(name for name in DECODERS if name not in missing))


def check_extras() -> Iterator[Finding]:
    """What is optional, and what it would give."""
    for extra, purpose in EXTRAS.items():
        needed = [requirement.name for requirement in _requirements(extra)]
        missing = [name for name in needed if _version(name) is None] or ([] if needed else ["all of it"])
        if missing:
            advice = f'pip install "cmmixer_hf[{extra}]"'
            yield Finding(extra, "missing", f"{purpose}; lacks {', '.join(missing)}", advice)
        else:
            yield Finding(extra, "ok", purpose)


def _requirements(extra: str) -> list["Requirement"]:
    """What the installed package asks for: always (`""`), or for an extra, through other extras too."""
    from packaging.requirements import Requirement

    found = []
    for requirement in map(Requirement, metadata.requires("cmmixer_hf") or ()):
        if (requirement.marker is None) == (extra == "") and (
            requirement.marker is None or requirement.marker.evaluate({"extra": extra})
        ):
            ours = requirement.name.replace("-", "_") == "cmmixer_hf"
            found += [other for name in requirement.extras for other in _requirements(name)] if ours else [requirement]
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_work() -> Iterator[Finding]:
    """A clip is written and read, and a small model runs on it."""
    import numpy as np

    from .media.reading import Sampling, read_clip, write_clip

    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = np.ascontiguousarray(np.broadcast_to(ramp[None, :, None, None], (20, 64, 64, 3)))
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, frames, tone, fps=10, sampling_rate=16000)
        clip = read_clip(path, Sampling(num_frames=2))
    if clip.frames is None or clip.waveforms is None:
        raise ValueError("the clip that was written has lost its picture or its sound")
    error = float(np.abs(clip.frames - frames[:2].astype(float)).mean())
    if error > 8 or np.abs(clip.waveforms).max() < 0.25:
        yield Finding(
            "a clip", "failed", f"comes back otherwise: {error:.0f} of 255 off", "pip install --force-reinstall av"
        )
    else:
        yield Finding("a clip", "ok", "written and read")
    yield from _run_model(clip)


def _run_model(clip: "Clip") -> Iterator[Finding]:
    import torch

    from .media.feature_extraction_cmmixer import CMMixerFeatureExtractor
    from .models.configuration_cmmixer import CMMixerConfig
    from .models.modeling_cmmixer import CMMixerForRetrieval

    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    inputs = extractor(videos=clip.frames, audio=clip.waveforms, sampling_rate=extractor.sampling_rate)
    with torch.random.fork_rng():
        config = CMMixerConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
        model = CMMixerForRetrieval(config).eval()
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    for device in ("cpu", *([accelerator.type] if accelerator else [])):
        with torch.inference_mode():
            score = model.to(device)(**inputs.to(device)).logits_per_video.item()
        works = math.isfinite(score)
        yield Finding(
            "a model", "ok" if works else "failed", f"runs on {device}" if works else f"gives {score} on {device}"
        )


def check_caches() -> Iterator[Finding]:
    """Where downloads and datasets go."""
    import datasets
    from huggingface_hub import constants

    for name, folder in (("models", constants.HF_HUB_CACHE), ("datasets", str(datasets.config.HF_DATASETS_CACHE))):
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                free = shutil.disk_usage(folder).free / 1e9
        except OSError as error:
            advice = "give HF_HOME a folder that can be written to"
            yield Finding(f"cache of {name}", "failed", f"{folder}: {error.strerror}", advice)
        else:
            yield Finding(f"cache of {name}", "ok", f"{folder}, {free:.0f} GB free")


# Section of the report: what it looks at.
CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Packages": check_packages,
    "Devices": check_devices,
    "Decoding": check_decoding,
    "Extras": check_extras,
    "At work": check_work,
    "Caches": check_caches,
}


def run_doctor(settings: DoctorSettings) -> int:
    """Print what was found. Returns 1 where something essential failed, else 0."""
    report = {section: list(_guarded(check)) for section, check in CHECKS.items()}
    failed = any(finding.state == "failed" for findings in report.values() for finding in findings)
    if settings.json:
        print(json.dumps({section: [asdict(finding) for finding in report[section]] for section in report}, indent=2))
    else:
        print(_as_text(report))
    return int(failed)


def _guarded(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """What a check finds; that it breaks is a finding, too."""
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
