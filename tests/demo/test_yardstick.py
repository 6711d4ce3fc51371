"""The yardstick's clips: made from a seed alone, bound by content and by nothing else."""

from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from unittest import mock

import av
import numpy as np
import pytest
from linear_probe import held_out_hits

from cmmixer_hf.demo.rendering import DRAWN_TEXTURES, SHAPES, TIMBRES
from cmmixer_hf.demo.scenes import (
    FALLING,
    IDENTITIES,
    LOWEST_PITCH,
    RISING,
    SEMITONES,
    height_curve,
    place_curve,
    turn_curve,
)
from cmmixer_hf.demo.scenes import TEXTURES as TEXTURE_NAMES
from cmmixer_hf.demo.world import make_scene, render_frames, render_sound, write_library

FPS, SAMPLING_RATE, DURATION = 10, 16000, 4.0


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
    assert all(len(scene.parts) == 2 for scene in easy + hard)
    notes = [np.mean([len(part.starts) for scene in scenes for part in scene.parts]) for scenes in (easy, hard)]
    assert notes[1] > 1.5 * notes[0]
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


def test_exchanging_one_identity_changes_both_and_only_the_other_part_stays():
    scene = make_scene(3)
    part, other = scene.parts
    kindred = next(group for group in (RISING, FALLING) if part.identity in group)
    swapped = replace(part, identity=next(name for name in kindred if name != part.identity))
    changed = replace(scene, parts=(swapped, other))
    assert not np.array_equal(render_frames(changed), render_frames(scene))
    assert not np.array_equal(render_sound(changed), render_sound(scene))


def test_one_rises_one_falls_and_they_take_turns():
    times = np.arange(0, DURATION, 0.05, dtype=np.float32)
    for seed in range(20):
        scene = make_scene(seed)
        assert sorted(part.identity in RISING for part in scene.parts) == [False, True]
        np.testing.assert_array_equal(np.sum([turn_curve(part, times) for part in scene.parts], axis=0), 1)
        assert all(turn_curve(part, part.starts).all() or len(part.starts) == 1 for part in scene.parts)


def test_every_identity_can_be_seen_and_heard():
    assert set(SHAPES) == set(TIMBRES) == set(IDENTITIES)
    assert set(DRAWN_TEXTURES) == set(TEXTURE_NAMES)


def test_shapes_have_equal_areas():
    y, x = np.mgrid[-2:2:400j, -2:2:400j].astype(np.float32)
    areas = [(shape(x, y) < 0).mean() * 16 for shape in SHAPES.values()]
    np.testing.assert_allclose(areas, np.pi, rtol=0.05)


# --- what binds picture and sound, measured in the media -------------------------------------------------------------


def test_place_and_pitch_are_those_of_whose_turn_it_is():
    times = np.arange(0.35, DURATION - 0.3, 0.1)
    places, pitches = [], []
    for seed in range(12):
        scene = make_scene(seed)
        turns = [turn_curve(part, times) > 0 for part in scene.parts]
        place = np.select(turns, [place_curve(part, times) for part in scene.parts])
        pitch = np.select(turns, [height_curve(part, times) for part in scene.parts]) * SEMITONES / 12
        heard, power = measure_pitches(render_sound(scene), times)
        on = power > power.max() - 25
        places.append(np.abs(measure_heights(render_frames(scene), times) - (0.2 + 0.6 * place)))
        pitches.append(np.abs(heard - pitch - np.log2(LOWEST_PITCH))[on])
    assert np.median(np.concatenate(places)) < 0.08, np.median(np.concatenate(places))
    assert np.median(np.concatenate(pitches)) < 0.1, np.median(np.concatenate(pitches))


def test_where_something_stands_says_nothing_about_the_pitch_to_who_does_not_know_the_shape():
    heights = np.linspace(0, 1, 61, dtype=np.float32)
    part = replace(make_scene(0).parts[0], starts=np.arange(61, dtype=np.float32), heights=heights, glide=0.01)
    places = np.stack([place_curve(replace(part, identity=name), part.starts + 0.5) for name in IDENTITIES])
    seen = np.exp(2j * np.pi * places).mean(0), np.exp(4j * np.pi * places).mean(0)
    assert max(np.abs(seen[0]).max(), np.abs(seen[1]).max()) < 1e-5  # no mean and no spread that depends on the height


def test_no_shape_stands_higher_than_another_on_average():
    times = np.arange(0, DURATION, 0.1, dtype=np.float32)
    places: dict[str, list[np.ndarray]] = {name: [] for name in IDENTITIES}
    for seed in range(200):
        for part in make_scene(seed).parts:
            places[part.identity].append(place_curve(part, times)[turn_curve(part, times) > 0])
    means = [np.concatenate(found).mean() for found in places.values()]
    np.testing.assert_allclose(means, 0.5, atol=0.1)  # tunes of few notes reach both ends, where places wrap


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
    """Global statistics of each file."""
    rows: dict[str, list[np.ndarray]] = {"seen": [], "heard": []}
    for path in library:
        frames, waveform, traces = read_clip(path)
        light, loud, peak = frames.mean((1, 2, 3)), np.sqrt(np.mean(waveform**2)), np.abs(waveform).max()
        looks = [frames.mean(), frames.std(), light.std(), *frames.mean((0, 1, 2))]
        rows["seen"].append(np.concatenate([traces["video"], looks]))
        rows["heard"].append(np.concatenate([traces["audio"], [20 * np.log10(loud), peak, peak / loud]]))
    return {name: np.array(values) for name, values in rows.items()}


def test_global_statistics_retrieve_at_chance(measured):
    hits = held_out_hits(measured["seen"], measured["heard"])
    count, chance = hits.shape[1], 10 / (hits.shape[1] / 2)
    draws = np.random.default_rng(0).binomial(count, chance, 100_000)
    low, high = np.quantile(draws, [0.005, 0.995])
    assert all(low <= found <= high for found in hits.sum(1)), (hits.sum(1), low, high)


def test_all_files_have_equal_lengths_and_settings(library):
    shapes = {(frames.shape, len(waveform)) for frames, waveform, _ in map(read_clip, library[:6])}
    assert len(shapes) == 1
    frames, samples = shapes.pop()
    assert frames == (int(DURATION * FPS), 64, 64, 3)
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
    far = [np.abs(frames - render_frames(scene, fps=FPS)).mean() for scene in (hard, easy)]
    assert 2 * far[0] < far[1]


def test_a_failure_stops_the_whole_library(tmp_path, monkeypatch):
    calls = []

    def fill_the_disk(path, *_, **__):
        calls.append(path)
        raise OSError("no space left on device")

    monkeypatch.setattr("cmmixer_hf.demo.world.write_clip", fill_the_disk)
    with pytest.raises(OSError, match="no space"):
        write_library(tmp_path, 100, seed=0, progress=False, num_workers=0)
    assert len(calls) < 10
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_a_process_is_that_of_the_library(tmp_path):
    with pytest.raises(OSError, match="File name too long"):  # of the file that is not yet whole
        write_library(tmp_path, 20, seed=0, progress=False, num_workers=2, prefix="x" * 238)
    assert list(tmp_path.iterdir()) == []


def test_what_ended_processes_had_begun_is_removed(tmp_path, monkeypatch):
    begun = tmp_path / ".clip-5-00001.mp4.12345.part"
    begun.touch()
    other = tmp_path / ".clip-6-00001.mp4.12345.part"
    other.touch()
    monkeypatch.setattr("cmmixer_hf.demo.world.write_clip", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_library(tmp_path, 3, seed=5, progress=False)
    assert list(tmp_path.iterdir()) == [other]


def test_processes_write_the_same_files(library, tmp_path):
    for number, path in enumerate(write_library(tmp_path, 3, seed=5, progress=False, num_workers=2)):
        assert path.read_bytes() == library[number].read_bytes()
