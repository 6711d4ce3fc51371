"""What is released: a wheel with everything in it, which works where there is no repository."""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import cmmixer_hf

ROOT = Path(__file__).parent.parent
SOURCE = Path(cmmixer_hf.__file__).parent


# What belongs to a release beside the package.
FILES = ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md")
FILES += ("CODE_OF_CONDUCT.md", "SECURITY.md", "constraints.txt", "mkdocs.yml", "pyproject.toml", "setup.cfg")
FOLDERS = (".github", "benchmarks", "checkpoints", "docs", "examples", "model_cards", "src", "tests")


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    """Folder of the source distribution and of the wheel made from it; built from a copy, to leave nothing here."""
    pytest.importorskip("build", reason="building a release needs build")
    pytest.importorskip("setuptools", reason="building without isolation needs setuptools")
    copy = tmp_path_factory.mktemp("release")
    for name in FILES:
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return copy / "dist"


@pytest.fixture(scope="module")
def wheel(release) -> Path:
    (built,) = release.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        about = {Path(name).name: archive.read(name).decode() for name in archive.namelist() if ".dist-info/" in name}
    files = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert names == {f"cmmixer_hf/{path.as_posix()}" for path in files}
    assert {"cmmixer_hf/training/model_card.md", "cmmixer_hf/demo/report.html", "cmmixer_hf/py.typed"} <= names
    assert f"\nVersion: {cmmixer_hf.__version__}\n" in about["METADATA"]
    assert "\nRequires-Python: >=3.11\n" in about["METADATA"]
    assert "cmmixer = cmmixer_hf.cli:main" in about["entry_points.txt"]
    assert about["LICENSE"] == (ROOT / "LICENSE").read_text()


def test_the_source_distribution_holds_tests_examples_and_what_runs_them(release):
    (built,) = release.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        there = {name.partition("/")[2] for name in archive.getnames()}
    files = {path for name in FOLDERS for path in (release.parent / name).rglob("*") if path.is_file()}
    missing = {path.relative_to(release.parent).as_posix() for path in files} | set(FILES)
    assert not {name for name in missing - there if ".egg-info/" not in name}


@pytest.mark.slow
def test_the_wheel_works_without_the_repository(wheel, tmp_path, tiny_config):
    """In an environment of its own, with the dependencies of this one lent to it."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"HF_HUB_OFFLINE": "1"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel)
    (lent,) = (tmp_path / "venv").glob("lib/*/site-packages")
    (lent / "lent.pth").write_text(sysconfig.get_path("purelib"))  # a .pth file inside it is not read, so ours wins
    where = run(python, "-c", "import cmmixer_hf; print(cmmixer_hf.__file__)").strip()
    assert Path(where).is_relative_to(tmp_path)
    cmmixer = tmp_path / "venv" / "bin" / "cmmixer"
    assert run(cmmixer, "--version") == f"cmmixer {cmmixer_hf.__version__}\n"
    assert "Everything that is needed works." in run(cmmixer, "doctor")
    cmmixer_hf.CMMixerModel(tiny_config).save_pretrained(tmp_path / "model")
    run(cmmixer, "card", "model")
    assert "last_hidden_state" in (tmp_path / "model" / "README.md").read_text()
    small = ("--clips", "8", "--held_out", "5", "--pretraining_samples", "8", "--queries", "1")
    demo = run(cmmixer, "demo", "--output", "demo/seed-0", *small)  # where `make demo` leaves it
    assert "report.html" in demo
    clip = next((tmp_path / "demo" / "seed-0" / "clips").glob("*.mp4"))
    run(cmmixer, "index", clip.parent, "music", "--model", "demo/seed-0/retrieval")
    assert len(json.loads(run(cmmixer, "search", clip, "music", "-k", "3", "--json"))["matches"]) == 3
    shutil.copytree(ROOT / "checkpoints", tmp_path / "checkpoints")
    quick_start = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    assert len(run(python, "-c", quick_start).splitlines()) == 5


def test_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == cmmixer_hf.__version__
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    oldest = setup["options"]["python_requires"].removeprefix(">=")
    tested = [line.split(" :: ")[-1] for line in setup["metadata"]["classifiers"].splitlines() if "3." in line]
    assert tested[0] == oldest
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["test"]["strategy"]["matrix"]["python"] == tested


def test_the_workflow_runs_make_targets_alone():
    """What a push is checked by is what anybody can run, and each target is there."""
    makefile = (ROOT / "Makefile").read_text()
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    commands.remove("${{ matrix.command }}")
    commands += jobs["versions"]["strategy"]["matrix"]["command"]
    assert set(commands) == {"make check", "make test", "make oldest", "make newest", "make wheel"}
    for command in commands:
        assert f"\n{command.removeprefix('make ')}:" in makefile
    assert "make test " in (ROOT / "README.md").read_text()
