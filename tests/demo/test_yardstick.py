"""The yardstick's clips: made from a seed alone, bound by content and by nothing else."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import av
import numpy as np
import pytest
from linear_probe import held_out_hits

from cmmixer_hf.demo.rendering import SHAPES, TEXTURES, TIMBRES
from cmmixer_hf.demo.scenes import IDENTITIES
from cmmixer_hf.demo.scenes import TEXTURES as TEXTURE_NAMES
from cmmixer_hf.demo.world import make_scene, render_frames, render_sound, write_library

FPS, SAMPLING_RATE, DURATION = 10, 16000, 12.0
SEGMENTS = (np.arange(8) + 0.5) / 8 * DURATION  # s, the midpoints at which clips are compared


def same(left, right) -> bool:
    """Whether two factors, or scenes of them, are equal to the last bit."""
    if is_dataclass(left):
        return all(same(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    if isinstance(left, tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return np.array_equal(left, right)


def measure_heights(frames: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Where the object is, measured: the mean row (0 to 1, upwards) of the pixels that differ most from the median."""
    chosen = frames[(times * FPS).astype(int)].astype(np.float32)
    distance = np.abs(chosen - np.median(chosen, axis=(1, 2), keepdims=True)).sum(-1)
    weight = np.maximum(distance - 0.6 * distance.max((1, 2), keepdims=True), 0).sum(2)
    return 1 - weight @ np.linspace(0, 1, weight.shape[1]) / weight.sum(1)


def measure_pitches(waveform: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The loudest frequency above the drone, log2 Hz, and its power in dB, measured in 0.1 s around each time."""
    starts = np.clip((times * SAMPLING_RATE).astype(int) - 800, 0, len(waveform) - 1600)
    windows = np.stack([waveform[start : start + 1600] for start in starts]) * np.hanning(1600)
    power = np.abs(np.fft.rfft(windows, 8192)) ** 2
    frequency = np.fft.rfftfreq(8192, 1 / SAMPLING_RATE)
    power[:, frequency < 190] = 0
    return np.log2(frequency[power.argmax(1)]), 10 * np.log10(power.max(1) + 1e-9)


def rank_correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left.argsort().argsort(), right.argsort().argsort())[0, 1])


# --- scenes and their rendering --------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bits():
    first, again = (make_scene(7, difficulty=0.5) for _ in range(2))
    assert same(first, again)
    np.testing.assert_array_equal(render_frames(first), render_frames(again))
    np.testing.assert_array_equal(render_sound(first), render_sound(again))


def test_different_seeds_give_different_scenes():
    left, right = make_scene(7), make_scene(8)
    assert np.abs(render_frames(left).astype(float) - render_frames(right)).mean() > 5
    assert abs(np.corrcoef(render_sound(left), render_sound(right))[0, 1]) < 0.5


@pytest.mark.parametrize("difficulty", [0.0, 0.5, 1.0])
def test_every_clip_has_the_same_length_and_legal_values(difficulty):
    for seed in range(8):
        scene = make_scene(seed, duration=4.0, difficulty=difficulty)
        frames, waveform = render_frames(scene, fps=8, size=96), render_sound(scene, sampling_rate=22050)
        assert frames.shape == (32, 96, 96, 3)
        assert frames.dtype == np.uint8
        assert waveform.shape == (88200,)
        assert waveform.dtype == np.float32
        assert np.isfinite(waveform).all()
        assert np.abs(waveform).max() <= 1


@pytest.mark.parametrize("keywords", [{"difficulty": 1.1}, {"difficulty": -0.1}, {"duration": 1.0}])
def test_a_setting_out_of_range_is_refused(keywords):
    with pytest.raises(ValueError, match=next(iter(keywords))):
        make_scene(0, **keywords)


def test_the_shortest_scene_is_whole():
    for seed in range(20):
        scene = make_scene(seed, duration=2.0, difficulty=1.0)
        assert render_frames(scene, size=32).shape == (20, 32, 32, 3)
        assert render_sound(scene).std() > 0.02


def test_the_dial_adds_objects_and_noise():
    easy, hard = ([make_scene(seed, difficulty=difficulty) for seed in range(40)] for difficulty in (0.0, 1.0))
    assert all(len(scene.parts) == 1 for scene in easy)
    assert all(len(scene.parts) == 2 for scene in hard)
    assert np.mean([len(scene.extras) for scene in hard]) > np.mean([len(scene.extras) for scene in easy])
    assert min(extra.radius for scene in hard for extra in scene.extras) > 0.125
    assert all(len(scene.looks) == len(scene.parts) for scene in easy + hard)


def test_a_nuisance_of_one_modality_leaves_the_other_alone():
    scene, other = make_scene(1), make_scene(2)
    seen = replace(scene, looks=other.looks, extras=other.extras, backdrop=other.backdrop)
    heard = replace(scene, backing=other.backing)
    np.testing.assert_array_equal(render_sound(seen), render_sound(scene))
    np.testing.assert_array_equal(render_frames(heard), render_frames(scene))
    assert not np.array_equal(render_frames(seen), render_frames(scene))
    assert not np.array_equal(render_sound(heard), render_sound(scene))


def test_exchanging_one_identity_changes_both_and_only_that_factor():
    scene = make_scene(3)
    part = scene.parts[0]
    swapped = replace(
        scene, parts=(replace(part, identity=next(name for name in IDENTITIES if name != part.identity)),)
    )
    assert not np.array_equal(render_frames(swapped), render_frames(scene))
    assert not np.array_equal(render_sound(swapped), render_sound(scene))
    heights = [measure_heights(render_frames(clip), SEGMENTS) for clip in (scene, swapped)]
    np.testing.assert_allclose(*heights, atol=0.06)


def test_every_identity_can_be_seen_and_heard():
    assert set(SHAPES) == set(TIMBRES) == set(IDENTITIES)
    assert set(TEXTURES) == set(TEXTURE_NAMES)


def test_shapes_have_equal_areas():
    y, x = np.mgrid[-2:2:400j, -2:2:400j].astype(np.float32)
    areas = [(shape(x, y) < 0).mean() * 16 for shape in SHAPES.values()]
    np.testing.assert_allclose(areas, np.pi, rtol=0.05)


# --- what binds picture and sound, measured in the media -------------------------------------------------------------


def test_height_follows_pitch_within_a_clip_and_not_between_clips():
    times = np.arange(0.35, DURATION - 0.3, 0.1)
    heights, pitches, sounding = [], [], []
    for seed in range(12):
        scene = make_scene(seed)
        heights.append(measure_heights(render_frames(scene), times))
        pitch, power = measure_pitches(render_sound(scene), times)
        pitches.append(pitch)
        sounding.append(power > power.max() - 25)
    table = np.array(
        [[rank_correlation(h[on], p[on]) for p, on in zip(pitches, sounding, strict=True)] for h in heights]
    )
    own, others = np.diag(table), table[~np.eye(len(table), dtype=bool)]
    assert own.min() > 0.75, own
    assert own.mean() > 0.9, own
    assert abs(others.mean()) < 0.1, others
    assert others.max() < own.mean(), others


def test_light_follows_loudness():
    times = np.arange(0.35, DURATION - 0.3, 0.1)
    correlations = []
    for seed in range(8):
        scene = make_scene(seed)
        frames = render_frames(scene)[(times * FPS).astype(int)].astype(np.float32)
        brightest = np.sort(frames.max(-1).reshape(len(times), -1), axis=1)[:, -500:].mean(1)
        correlations.append(rank_correlation(brightest, measure_pitches(render_sound(scene), times)[1]))
    assert np.mean(correlations) > 0.5, correlations


def test_segments_of_a_clip_differ_and_every_clip_uses_all_heights():
    for seed in range(20):
        part = make_scene(seed).parts[0]
        assert part.heights.min() < 0.1
        assert part.heights.max() > 0.9
        assert abs(part.heights.mean() - 0.5) < 0.05
        at_segments = part.heights[np.searchsorted(part.starts, SEGMENTS) - 1]
        assert np.abs(np.diff(at_segments)).mean() > 0.1


# --- libraries of real files -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> list[Path]:
    return write_library(tmp_path_factory.mktemp("library"), 104, seed=5, progress=False)


def read_clip(path: Path) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Frames, waveform, and for each stream: duration, bytes, mean and spread of the packet sizes, key packets."""
    frames, chunks, packets = [], [], {"video": [], "audio": []}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size:
                packets[packet.stream.type].append((packet.size, packet.is_keyframe))
            for frame in packet.decode():
                array = frame.to_ndarray(format="rgb24") if isinstance(frame, av.VideoFrame) else frame.to_ndarray()
                (frames if isinstance(frame, av.VideoFrame) else chunks).append(array)
        streams = {stream.type: float(stream.duration * stream.time_base) for stream in container.streams}
    traces = {}
    for kind, rows in packets.items():
        sizes, keys = np.array(rows, float).T
        traces[kind] = np.array([streams[kind], sizes.sum(), sizes.mean(), sizes.std(), keys.sum()])
    return np.stack(frames), np.concatenate(chunks, axis=1)[0], traces


@pytest.fixture(scope="module")
def measured(library) -> dict[str, np.ndarray]:
    """Measured in each file: global statistics, and height or pitch of the segments (the positive control)."""
    rows: dict[str, list[np.ndarray]] = {"seen": [], "heard": [], "heights": [], "pitches": []}
    for path in library:
        frames, waveform, traces = read_clip(path)
        light, loud, peak = frames.mean((1, 2, 3)), np.sqrt(np.mean(waveform**2)), np.abs(waveform).max()
        looks = [frames.mean(), frames.std(), light.std(), *frames.mean((0, 1, 2))]
        rows["seen"].append(np.concatenate([traces["video"], looks]))
        rows["heard"].append(np.concatenate([traces["audio"], [20 * np.log10(loud), peak, peak / loud]]))
        rows["heights"].append(measure_heights(frames, SEGMENTS))
        rows["pitches"].append(measure_pitches(waveform, SEGMENTS)[0])
    return {name: np.array(values) for name, values in rows.items()}


def test_global_statistics_retrieve_at_chance(measured):
    hits = held_out_hits(measured["seen"], measured["heard"])
    count, chance = hits.shape[1], 10 / (hits.shape[1] / 2)
    draws = np.random.default_rng(0).binomial(count, chance, 100_000)
    low, high = np.quantile(draws, [0.005, 0.995])
    assert all(low <= found <= high for found in hits.sum(1)), (hits.sum(1), low, high)


def test_the_same_probe_finds_the_content(measured):
    hits = held_out_hits(measured["heights"], measured["pitches"])
    assert (hits.mean(1) > 3 * 10 / (hits.shape[1] / 2)).all(), hits.mean(1)


def test_all_files_have_equal_lengths_and_settings(library):
    shapes = {(frames.shape, len(waveform)) for frames, waveform, _ in map(read_clip, library[:6])}
    assert len(shapes) == 1
    frames, samples = shapes.pop()
    assert frames == (int(DURATION * FPS), 128, 128, 3)
    assert abs(samples / SAMPLING_RATE - DURATION) < 0.15


def test_a_library_resumes_and_begins_like_a_shorter_one(library, tmp_path):
    first = write_library(tmp_path, 2, seed=5, progress=False)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in library[:2]]
    stamp = first[1].stat().st_mtime_ns
    first[0].unlink()
    again = write_library(tmp_path, 3, seed=5, progress=False, num_workers=1)
    assert [path.name for path in again] == [path.name for path in library[:3]]
    assert again[1].stat().st_mtime_ns == stamp
    assert again[0].read_bytes() == library[0].read_bytes()
    assert sorted(tmp_path.iterdir()) == again


def test_files_of_a_difficult_world_show_its_scenes(tmp_path):
    (path,) = write_library(tmp_path, 1, seed=5, difficulty=1.0, progress=False)
    frames = read_clip(path)[0].astype(int)
    hard, easy = (make_scene(np.random.SeedSequence(5, spawn_key=(0,)), difficulty=value) for value in (1.0, 0.0))
    assert (len(hard.parts), len(easy.parts)) == (2, 1)
    far = [np.abs(frames - render_frames(scene, fps=FPS)).mean() for scene in (hard, easy)]
    assert far[0] < 5 < far[1]


def test_a_failure_stops_the_whole_library(tmp_path, monkeypatch):
    calls = []

    def fill_the_disk(path, *_, **__):
        calls.append(path)
        raise OSError("no space left on device")

    monkeypatch.setattr("cmmixer_hf.demo.world.write_clip", fill_the_disk)
    with pytest.raises(OSError, match="no space"):
        write_library(tmp_path, 100, seed=0, progress=False)
    assert len(calls) < 10
    assert list(tmp_path.iterdir()) == []
