"""Real Ray, two cores, no network: minutes where the machine is busy, most of them Ray's own start."""

import pytest

from cmmixer_hf.cli import main
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepare_ray import prepare_on_ray
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.data.sources.folders import clips_of_files
from cmmixer_hf.media.reading import Sampling

RECIPE = Recipe(Sampling(num_frames=2, shorter_side=32), clips_per_shard=2)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def cluster(monkeypatch):
    ray = pytest.importorskip("ray", reason="needs the extra [ray]")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_cluster_writes_what_one_machine_does(clip_files, tmp_path, cluster):
    (tmp_path / "broken.mp4").write_text("not a video")
    clips = clips_of_files([*clip_files, tmp_path / "broken.mp4"])
    whole = prepare(clips, tmp_path / "here", RECIPE, progress=False)
    prepare(clips, tmp_path / "there", RECIPE, shard=(1, 3), progress=False)  # so that Ray goes on from something
    shared = prepare_on_ray(clips, tmp_path / "there", RECIPE)
    assert (shared.num_clips, shared.errors) == (whole.num_clips, whole.errors)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_streams_and_job_arrays_are_refused(clip_files, tmp_path, capsys):
    assert main(["prepare-ray", str(clip_files[0].parent), str(tmp_path), "--shard", "0/2"]) == 1
    assert "no --shard" in capsys.readouterr().err
