"""The frame at t: exact stamps, rotation, colours, size, pictures that end early, stamps that are missing or wrong."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import LONG_GOP, SHORT_GOP, Recipe, chirp, numbered_frame, numbers_of, write_media

from cmmixer_hf.media.decoding import steady_stamps
from cmmixer_hf.media.reading import read_frames
from cmmixer_hf.media.writing import write_clip


def test_frames_at_exact_stamps_and_before_the_first(media_file):
    times = [number / 25 for number in (0, 7, 33, 149)]
    assert numbers_of(read_frames(media_file("long.mp4"), [*times, -1.0])) == [0, 7, 33, 149, 0]


@pytest.mark.parametrize("first", [0.2, 0.4])
@pytest.mark.parametrize("name", ["short.ts", "hevc.ts", "mpeg2.vob", "anew.ts"])
def test_recording_that_starts_between_key_frames(media_file, tmp_path, name, first):
    data, path = media_file(name).read_bytes(), tmp_path / name
    path.write_bytes(data[int(len(data) * first) // 188 * 188 :])
    numbers = np.array(numbers_of(read_frames(path, np.arange(8, 28) / 8)))
    seen = numbers[numbers > numbers[0]]  # before the first key frame its picture stands for all
    steps = np.diff(seen)
    assert len(seen) > 10
    assert set(steps.tolist()) == {3, 4}  # an eighth of a second at 25 frames a second
    assert abs(seen[-1] - seen[0] - len(steps) * 25 / 8) < 1


# Matrix of ISO/IEC 14496-12, (x, y) -> (a x + c y, b x + d y) with y downward, and the turn that it asks for.
@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)], ids=["90", "180", "270"]
)
@pytest.mark.parametrize("name", ["short.mp4", "hevc.mp4"])
def test_rotation_is_applied(media_file, tmp_path, name, matrix, turns):
    data = bytearray(media_file(name).read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 20] = struct.pack(">5i", a, b, 0, c, d)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    upright = read_frames(media_file(name), [1.0, 3.0])
    np.testing.assert_array_equal(read_frames(path, [1.0, 3.0]), np.rot90(upright, turns, axes=(1, 2)))
    assert min(read_frames(path, [1.0], shorter_side=48).shape[1:3]) == 48


def test_shorter_side_scales_down_only(media_file):
    path = media_file("short.mp4")
    assert read_frames(path, [1.0], shorter_side=48).shape == (1, 48, 80, 3)
    assert numbers_of(read_frames(path, [1.0], shorter_side=48)) == [25]
    np.testing.assert_array_equal(read_frames(path, [1.0], shorter_side=500), read_frames(path, [1.0]))


@pytest.mark.parametrize("limits", ["tv", "pc"])
@pytest.mark.parametrize(("matrix", "number"), [("ITU601", 5), ("ITU709", 1)])
def test_colours_are_what_they_were(tmp_path, matrix, number, limits):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255] * 3, [128] * 3, [0] * 3, [200, 120, 40]], np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(colours.repeat(16, 0), (32, 7 * 16, 3)))
    full = {"tv": 1, "pc": 2}[limits]
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"qp": "0", "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv444p"
        stream.codec_context.colorspace, stream.codec_context.color_range = number, full
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame = frame.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=full)
        frame.colorspace, frame.color_range = number, full
        frame.pts, frame.time_base = 0, Fraction(1, 10)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    shown = read_frames(tmp_path / "a.mp4", [0.0])[0, 16, 8::16]
    assert np.abs(shown.astype(int) - colours).max() <= 2


@pytest.mark.parametrize("missing", [8, 50])
def test_picture_that_ends_before_the_sound_is_held_as_players_do(tmp_path, missing):
    frames = np.stack([numbered_frame(number) for number in range(150 - missing)])
    write_clip(tmp_path / "a.mp4", frames, chirp(np.arange(6 * 16000) / 16000).astype(np.float32), fps=25)
    assert numbers_of(read_frames(tmp_path / "a.mp4", [2.0, 5.95])) == [50, len(frames) - 1]


def test_frames_far_apart_are_found_although_some_are_passed_over(tmp_path):
    stamps = tuple(np.cumsum(np.random.default_rng(1).integers(40, 130, 60)) / 100 - 0.4)
    recipe = Recipe("libx264", picture=LONG_GOP, stamps=tuple(np.array(stamps) - stamps[0]))
    path = write_media(tmp_path / "slides.mp4", recipe)
    times = np.random.default_rng(2).uniform(0, recipe.instants[-1], 40)
    expected = np.searchsorted(recipe.instants, times, side="right") - 1
    assert numbers_of(read_frames(path, times)) == expected.tolist()


def test_cut_mid_way_size_changes_keep_the_first_size(tmp_path):
    parts = [write_media(tmp_path / f"{h}.ts", ts(h)) for h in (96, 64)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert read_frames(joined, [0.5, 1.5]).shape == (2, 96, 160, 3)


def ts(height: int) -> Recipe:
    return Recipe("libx264", picture=SHORT_GOP, seconds=2, size=(height, 160), container={"format": "mpegts"})


STAMPS = {
    "missing": ([0, None, None, 30, None, 50], [0, 10, 20, 30, 40, 50]),
    "another frame's": ([0, None, 30, 30, None, 50], [0, 10, 20, 30, 40, 50]),
    "data lost": ([0, 10, 50, 60, None, 80], [0, 10, 20, 60, 70, 80]),
    "much lost": ([0, 10, 500, None, 520], [0, 10, 500, 510, 520]),
    "anew": ([500, 510, 0, 10], [500, 510, 0, 10]),
    "half a step": ([0, 15, 25, 40, 50], [0, 15, 25, 40, 50]),  # film on NTSC: three fields, two fields
    "none": ([None, None], [None, None]),
}


@pytest.mark.parametrize(("given", "expected"), STAMPS.values(), ids=STAMPS)
def test_missing_stamps_are_filled_in_and_wrong_ones_corrected(given, expected):
    frames = [av.VideoFrame(16, 16) for _ in given]
    for frame, stamp in zip(frames, given, strict=True):
        frame.pts = stamp
    assert [frame.pts for frame in steady_stamps(frames, 10.0)] == expected


def test_seeking_in_old_444_streams_gives_the_frames_of_one_pass(real_videos):
    path: Path = real_videos / "odd/cockatoo.mp4"
    with av.open(str(path)) as container:
        frames = {round(frame.time * 20): frame for frame in container.decode(video=0) if frame.time > 8}
    expected = frames[180].reformat(format="rgb24").to_ndarray()
    np.testing.assert_array_equal(read_frames(path, [9.01])[0], expected)


def test_a_frame_that_no_other_refers_to_may_last_for_seconds(tmp_path):
    """Such frames are skipped until shortly before the target; one that is still shown then is decoded after all."""
    path = tmp_path / "slow.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=LONG_GOP)
        stream.height, stream.width, stream.pix_fmt = *numbered_frame(0).shape[:2], "yuv420p"
        for number in range(12):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = number + 100 * (number > 3), Fraction(1, 25)  # the fourth, a B frame, stays
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert numbers_of(read_frames(path, [0.0, 2.0, 4.0, 107 / 25])) == [0, 3, 3, 7]
