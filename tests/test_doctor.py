"""The report names what is broken, with what to do, and the exit code says whether it matters."""

import json
import sys

import pytest

from cmmixer_hf.cli import main
from cmmixer_hf.doctor import CHECKS


def findings(capsys) -> dict[str, dict]:
    """The report of `cmmixer doctor --json`, by the findings' names."""
    sections = json.loads(capsys.readouterr().out)
    assert list(sections) == list(CHECKS)
    return {finding["name"]: finding for section in sections.values() for finding in section}


def test_all_is_well_here(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert all(section in text for section in CHECKS)
    assert "runs on cpu" in text
    assert text.endswith("Everything that is needed works.\n")


def test_what_is_broken_is_named_and_the_rest_examined(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setitem(sys.modules, "av", None)  # as if it were not installed
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor", "--json"]) == 1
    found = findings(capsys)
    assert {name for name, finding in found.items() if finding["state"] == "failed"} == {"decoding", "cache of models"}
    assert "import of av halted" in found["decoding"]["detail"]
    assert "HF_HOME" in found["cache of models"]["advice"]
    assert found["a clip"]["state"] == "ok"


def test_the_text_says_what_failed_and_what_to_do(capsys, monkeypatch):
    monkeypatch.setattr("importlib.metadata.requires", lambda package: ["torch>=99"])
    assert main(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "FAILED  torch" in text
    assert '-> pip install "torch>=99"' in text
    assert text.endswith("Does not work yet: torch.\n")


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_it_is_quiet_besides(as_json, capfd):
    main(["doctor", *as_json])
    assert capfd.readouterr().err == ""
