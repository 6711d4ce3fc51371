"""What the README says is run here."""

import json
import re
import runpy
from pathlib import Path

import pytest

from cmmixer_hf.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_sizes_is_what_its_command_prints():
    sizes = runpy.run_path(str(ROOT / "benchmarks" / "size.py"))
    assert "\n".join(sizes["rows"]()) in (ROOT / "CONTRIBUTING.md").read_text()


def test_pictures_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path


def test_the_first_search_finds_the_soundtrack_that_the_clip_had(monkeypatch, capsys):
    """It runs in the repository as it is, and marks what it should find."""
    monkeypatch.chdir(ROOT)
    (command,) = re.findall(r"^    cmmixer (search checkpoints/.*)$", README, re.MULTILINE)
    assert main(command.split()) == 0
    assert "  <- its own\n" in capsys.readouterr().out


def test_the_released_index_names_no_place_of_the_machine_that_made_it():
    for path in (ROOT / "checkpoints").glob("*/index/index.json"):
        facts = json.loads(path.read_text())
        assert facts["model"] == path.parents[1].name
        assert facts["model_from_here"] == ".."


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_table_is_the_recorded_runs(seed):
    results = json.loads((ROOT / "benchmarks" / "results" / f"demo-seed-{seed}.json").read_text())
    row = next(line for line in README.splitlines() if line.startswith(f"| trained, seed {seed} |"))
    told = [float(cell) for cell in row.split("|")[2:-1]]
    scores = [results["scores"]["trained"][way] for way in ("video_to_audio", "audio_to_video")]
    measured = [value for way in scores for value in way.values()]
    assert told == [round(value, 1) for value in measured]
    assert all(way["R@10"] >= 5 * results["scores"]["trained"]["chance"]["R@10"] for way in scores)
