"""Each check finds what it is there to find."""

import configparser
from pathlib import Path

import numpy as np
import pytest

from cmmixer_hf.doctor import EXTRAS, check_decoding, check_extras, check_packages, check_work
from cmmixer_hf.media.reading import Clip


@pytest.fixture
def require(monkeypatch):
    """Let the installed package ask for something else."""
    return lambda *lines: monkeypatch.setattr("importlib.metadata.requires", lambda package: list(lines))


def by_name(check) -> dict:
    return {finding.name: finding for finding in check()}


def test_every_extra_is_explained():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parent.parent / "setup.cfg")
    assert set(EXTRAS) == set(setup["options.extras_require"]) - {"dev"}


def test_packages_that_are_missing_or_too_old_fail(require):
    require("torch>=2.0", "no-such-package>=1", "numpy>=1000", "faiss-cpu>=1000; extra == 'index'")
    found = by_name(check_packages)
    assert found["torch"].state == "ok"
    assert (found["no-such-package"].state, found["no-such-package"].detail) == ("failed", "not installed")
    assert found["numpy"].state == "failed"
    assert found["numpy"].advice == 'pip install "numpy>=1000"'
    assert "faiss-cpu" not in found


def test_extras_follow_one_another(require):
    require("numpy; extra == 'index'", "no-such-package; extra == 'demo'", "cmmixer_hf[demo,index]; extra == 'app'")
    found = by_name(check_extras)
    assert found["index"].state == "ok"
    for extra in ("demo", "app"):
        assert found[extra].state == "missing"
        assert "lacks no-such-package" in found[extra].detail
        assert found[extra].advice == f'pip install "cmmixer_hf[{extra}]"'


def test_a_package_that_breaks_others_is_found(monkeypatch, tmp_path):
    (tmp_path / "torchcodec.py").write_text("raise OSError('libnvrtc.so.13: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    finding = by_name(check_packages)["torchcodec"]
    assert finding.state == "failed"
    assert "libnvrtc" in finding.detail
    assert "pip uninstall torchcodec" in finding.advice


def test_decoders_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr("cmmixer_hf.doctor.DECODERS", ("h264", "no_such_codec"))
    missing, there = list(check_decoding())[1:]
    assert (missing.state, missing.detail) == ("missing", "no_such_codec")
    assert (there.state, there.detail) == ("ok", "h264")


def test_a_clip_that_comes_back_otherwise_fails(monkeypatch):
    def read_another(path, sampling) -> Clip:
        return Clip(np.zeros((2, 64, 64, 3), np.uint8), np.ones((2, 41600), np.float32), np.zeros(2), 2.0)

    monkeypatch.setattr("cmmixer_hf.media.reading.read_clip", read_another)
    assert by_name(check_work)["a clip"].state == "failed"
