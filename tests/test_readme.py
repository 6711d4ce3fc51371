"""What the README says is run here."""

import json
import re
import runpy
from pathlib import Path

from cmmixer_hf.cli import main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_table_of_sizes_is_what_its_command_prints():
    sizes = runpy.run_path(str(ROOT / "benchmarks" / "size.py"))
    assert "\n".join(sizes["rows"]()) in (ROOT / "docs" / "method.md").read_text()


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
