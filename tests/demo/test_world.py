"""The yardstick as rows: what an experiment trains on without files."""

import numpy as np
import pytest

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data.batches import StackMaker, collate_clips, unpack_frames, unpack_waveforms
from cmmixer_hf.data.prepared_clips import SHARD_SCHEMA
from cmmixer_hf.demo.rendering import render_frames, render_sound
from cmmixer_hf.demo.world import World, make_row
from cmmixer_hf.evaluation.free_cues import score_free_cues
from cmmixer_hf.media.reading import Sampling, read_clip, write_clip


def test_a_row_is_a_row_of_a_shard_and_makes_stacks():
    rows = [make_row(World(seed=1), index) for index in range(3)]
    assert all(list(row) and set(row) == set(SHARD_SCHEMA.names) for row in rows)
    stacks = StackMaker(CMMixerFeatureExtractor(image_size=32, window_seconds=0.6))(collate_clips(rows))
    assert stacks["pixel_values"].shape == stacks["audio_values"].shape == (3, 4, 3, 32, 32)


def test_a_clip_depends_on_its_seed_and_index_alone():
    assert make_row(World(seed=1), 5) == make_row(World(seed=1), 5)
    assert make_row(World(seed=1), 5)["waveforms"] != make_row(World(seed=2), 5)["waveforms"]
    assert make_row(World(seed=1), 5)["frames"] != make_row(World(seed=1), 6)["frames"]


def test_a_row_is_what_a_file_of_its_scene_gives(tmp_path):
    world = World(seed=4, sampling=Sampling(num_frames=4, window_seconds=1.0, shorter_side=64))
    scene, row = world.scene(0), make_row(world, 0)
    frames, sound = render_frames(scene, fps=10, size=64), render_sound(scene)
    write_clip(tmp_path / "clip.mp4", frames, sound, fps=10, sampling_rate=16000)
    clip = read_clip(tmp_path / "clip.mp4", world.sampling)
    difference = np.abs(unpack_frames(row).numpy().astype(float) - clip.frames)
    assert difference.mean() < 14  # grey levels: the file shows the middle of a frame's time, and is compressed
    own, coded = unpack_waveforms(row).numpy() / 32767, clip.waveforms
    correlation = [np.corrcoef(left, right)[0, 1] for left, right in zip(own, coded, strict=True)]
    assert min(correlation) > 0.9


def test_sound_and_labels_are_of_the_same_scene():
    row, parts = make_row(World(seed=3), 1), World(seed=3).scene(1).parts
    assert row["labels"] == sorted(part.identity for part in parts)


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_free_cues_stay_below_the_gate(difficulty):
    world, pool = World(seed=8, difficulty=difficulty), World(seed=1_000_008, difficulty=difficulty)
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=4, window_seconds=0.6, standardize=True)
    rows = [[make_row(one, index) for index in range(count)] for one, count in ((world, 300), (pool, 300))]
    cues = score_free_cues(*rows, extractor)
    cues.check()
    assert cues.chance["R@10"] == pytest.approx(10 / 3)
