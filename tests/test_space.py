"""The folder of a Space has all that its page needs, and the page starts there."""

import runpy
import shutil
import sys
from pathlib import Path

import pytest
import yaml

SCRIPT = Path(__file__).parents[1] / "examples" / "space.py"


@pytest.fixture
def space(retriever_folder, clip_files, tmp_path, monkeypatch) -> Path:
    """What the script writes for a library of three clips."""
    (tmp_path / "clips").mkdir()
    for path in clip_files[:3]:
        shutil.copy(path, tmp_path / "clips")
    words = ["--library", "clips", "--model", str(retriever_folder), "--output", "space", "--title", "Try it"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return tmp_path / "space"


def test_the_hub_knows_what_to_run_and_to_install(space):
    header = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert (header["title"], header["sdk"]) == ("Try it", "gradio")
    assert (space / header["app_file"]).is_file()
    assert (space / "requirements.txt").read_text() == "cmmixer_hf[app]\n"
    assert {path.name for path in (space / "library").iterdir()} == {"clip0.mp4", "clip1.mp4", "clip2.mp4"}


def test_the_page_starts_with_an_index_of_the_library(space, monkeypatch):
    pytest.importorskip("gradio", reason="the page needs gradio: pip install cmmixer_hf[app]")
    served = []
    monkeypatch.setattr("uvicorn.run", lambda server, **options: served.append(options))
    monkeypatch.setattr("cmmixer_hf.page.serving._check_port", lambda settings: None)
    monkeypatch.chdir(space)
    runpy.run_path(str(space / "app.py"))
    (options,) = served
    assert options["host"] == "0.0.0.0"
    assert (space / "index" / "index.json").is_file()
