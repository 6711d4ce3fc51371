"""The yardstick as rows: what an experiment trains on without files."""

import numpy as np
import pytest
import torch
from conftest import SHARED
from linear_probe import held_out_hits
from twins import TWINS, read_esc10, twin_rows

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data.batches import StackMaker, collate_clips, unpack_frames, unpack_waveforms
from cmmixer_hf.data.prepared_clips import SHARD_SCHEMA
from cmmixer_hf.demo.rendering import render_frames, render_sound
from cmmixer_hf.demo.world import World, make_row
from cmmixer_hf.media.reading import Sampling, read_clip, write_clip


def test_a_row_is_a_row_of_a_shard_and_makes_stacks():
    rows = [make_row(World(seed=1), index) for index in range(3)]
    assert all(list(row) and set(row) == set(SHARD_SCHEMA.names) for row in rows)
    stacks = StackMaker(CMMixerFeatureExtractor(image_size=32, num_frames=4))(collate_clips(rows))
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
    assert difference.mean() < 8  # grey levels: the file shows the middle of a frame's time, and is compressed
    own, coded = unpack_waveforms(row).numpy() / 32767, clip.waveforms
    correlation = [np.corrcoef(left, right)[0, 1] for left, right in zip(own, coded, strict=True)]
    assert min(correlation) > 0.9


def test_videos_of_one_track_share_the_sound_and_not_the_picture():
    world = World(seed=3, videos_per_track=2)
    first, second, other = (make_row(world, index) for index in (0, 1, 2))
    assert first["track_id"] == second["track_id"] != other["track_id"]
    assert first["waveforms"] == second["waveforms"] != other["waveforms"]
    assert first["frames"] != second["frames"]
    assert first["labels"] == second["labels"]


@pytest.mark.parametrize("kind", TWINS)
def test_twin_rows_are_other_pictures_of_the_same_clip(kind):
    world = World(seed=6, difficulty=1.0)
    (twin,), own = list(twin_rows(world, kind, [2])), make_row(world, 2)
    assert (twin["clip_id"], twin["waveforms"]) == (own["clip_id"], None)
    assert twin["frames"] != own["frames"]


def test_global_statistics_of_rows_retrieve_at_chance_and_the_content_does_not():
    world = World(seed=8, difficulty=0.5)
    seen, heard = [], []
    for index in range(240):
        row = make_row(world, index)
        frames, sound = unpack_frames(row).float(), unpack_waveforms(row).float()
        seen.append([frames.mean(), frames.std(), frames.mean((1, 2, 3)).std(), *frames.mean((0, 1, 2)).tolist()])
        loudness = sound.square().mean(1).sqrt()
        heard.append([loudness.mean(), loudness.std(), sound.abs().max(), sound.abs().max() / loudness.mean()])
    hits = held_out_hits(np.array(seen, float), np.log1p(np.array(heard, float)))
    draws = np.random.default_rng(0).binomial(hits.shape[1], 10 / (hits.shape[1] / 2), 100_000)
    low, high = np.quantile(draws, [0.005, 0.995])
    assert all(low <= found <= high for found in hits.sum(1)), (hits.sum(1), low, high)


def test_recordings_are_played_as_timbres():
    rate = 16000
    tones = {
        name: [torch.sin(torch.arange(rate * 2) * 0.05 * (place + 1)).numpy()] for place, name in enumerate(names())
    }
    plain, played = World(seed=2), World(seed=2, recordings=tones)
    assert make_row(plain, 0)["frames"] == make_row(played, 0)["frames"]
    assert make_row(plain, 0)["waveforms"] != make_row(played, 0)["waveforms"]
    assert unpack_waveforms(make_row(played, 0)).float().std() > 100


def names() -> tuple[str, ...]:
    from cmmixer_hf.demo.scenes import IDENTITIES

    return IDENTITIES


@pytest.mark.skipif(not (SHARED / "esc10").is_dir(), reason=f"{SHARED / 'esc10'} does not exist")
def test_esc10_gives_disjoint_timbres():
    train, test = (read_esc10(SHARED / "esc10", folds, sampling_rate=16000) for folds in ((1, 2, 3, 4), (5,)))
    assert all(len(waves) == 32 for waves in train.values())
    assert all(len(waves) == 8 for waves in test.values())
    seen = {wave.tobytes() for waves in train.values() for wave in waves}
    assert not seen & {wave.tobytes() for waves in test.values() for wave in waves}
    assert all(np.abs(wave[:1600]).max() > 0.2 * np.abs(wave).max() for waves in test.values() for wave in waves)
