"""The contributors' page: its picture of the house is the house, and its diffs do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import LEVEL, SOURCE, imports

from cmmixer_hf.cli import VERBS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
(HOUSE,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
BOX = {
    word: box
    for box, words in re.findall(r'(\w+)\["<b>[^<]*</b><br/>(.*)"\]', HOUSE)
    for word in words.replace("<br/>", " ").split()
}
ARROWS = {box: set(targets.split(" & ")) for box, targets in re.findall(r"(\w+) --> (.*)", HOUSE)}


def reachable(box: str) -> set[str]:
    """A box and all that its arrows lead to."""
    return {box}.union(*(reachable(target) for target in ARROWS.get(box, ())))


def test_every_file_is_in_a_box():
    assert set(BOX) == set(LEVEL), "CONTRIBUTING.md: a word a file, in the box where it belongs"


def test_imports_follow_the_arrows():
    wrong = [
        f"{path.stem} ({BOX[path.stem]}) imports {other} ({BOX[other]})"
        for path in SOURCE.glob("*.py")
        for other in imports(path)
        if BOX[other] not in reachable(BOX[path.stem])
    ]
    assert not wrong


def test_every_arrow_is_needed():
    crossed = {(BOX[path.stem], BOX[other]) for path in SOURCE.glob("*.py") for other in imports(path)}
    crossed |= {(BOX["cli"], BOX[file]) for file, *_ in VERBS.values()}  # imported by name
    assert {(box, target) for box, targets in ARROWS.items() for target in targets} <= crossed


def test_files_of_the_step_are_there():
    step = PAGE.split("## How a step flows")[1].split("##")[0]
    for name in re.findall(r"`(\w+)\.py`", step):
        assert name in LEVEL, name


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The sources, their tests and the README, with all diffs of the page applied."""
    copy = tmp_path_factory.mktemp("copy")
    ignore = shutil.ignore_patterns("*.egg-info", "__pycache__")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ("README.md", "CONTRIBUTING.md", "pyproject.toml"):
        shutil.copy(ROOT / name, copy)
    diffs = re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL)
    assert len(diffs) == 3
    for number, diff in enumerate(diffs):
        done = subprocess.run(["git", "apply", "-"], cwd=copy, input=diff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"diff {number + 1} of CONTRIBUTING.md does not apply any more: {done.stderr}"
    return copy


def test_what_the_diffs_add_works(copy):
    """Each brings its doctest; the house stands with them, and a new mixer passes the tests of all mixers."""
    added = [f"src/cmmixer_hf/{name}.py" for name in ("mixing", "modeling_cmmixer", "numpy_store")]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *added]
    command += ["tests/test_architecture.py", "tests/test_mixing.py"]
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    for name in ("curtain_mask", "CMMixerForAudioVisualClassification", "NumpyStore", "[curtain]"):
        assert re.search(rf"PASSED .*{re.escape(name)}", done.stdout), name
