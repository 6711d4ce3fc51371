"""The contributors' page: its picture of the house is the house, and its diffs do what they say."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from test_architecture import FLOOR, MODULES, SOURCE, imports, wing

from cmmixer_hf.training.run_folder import LOCK, OWN_FILES

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
(HOUSE,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.DOTALL)
BOXES = set(re.findall(r'(\w+)\["<b>', HOUSE))
ARROWS = {box: set(targets.split(" & ")) for box, targets in re.findall(r"(\w+) --> (.*)", HOUSE)}


def reachable(box: str) -> set[str]:
    """All boxes that a box's arrows lead to."""
    targets = ARROWS.get(box, set())
    return targets.union(*map(reachable, targets))


def test_every_wing_is_a_box():
    assert BOXES | {"doctor", "__init__"} == set(FLOOR)


def test_arrows_are_those_of_the_imports():
    """One arrow a pair of boxes that are next to each other; what is reached through others has none."""
    for box in BOXES:
        needed = {wing(other) for path, module in MODULES.items() if wing(module) == box for other in imports(path)}
        assert needed - {box} <= reachable(box)
        assert all(FLOOR[target] < FLOOR[box] for target in reachable(box))


def test_files_of_the_step_are_there():
    step = PAGE.split("## How a step flows")[1].split("##")[0]
    for name in re.findall(r"`([\w/]+\.py)`", step):
        assert (SOURCE / name).is_file(), name


def test_every_file_of_a_run_has_an_owner():
    table = PAGE.split("## Who owns which file of a run folder")[1].split("\n## ")[0]
    owned = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }
    assert owned == {*OWN_FILES, LOCK}


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
    added = [f"src/cmmixer_hf/{name}.py" for name in ("models/mixing", "models/modeling_cmmixer", "search/numpy_store")]
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", *added]
    command += ["tests/test_architecture.py", "tests/models/test_mixing.py"]
    environment = os.environ | {"PYTHONPATH": str(copy / "src")}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    for name in ("curtain_mask", "CMMixerForAudioVisualClassification", "NumpyStore", "[curtain]"):
        assert re.search(rf"PASSED .*{re.escape(name)}", done.stdout), name
