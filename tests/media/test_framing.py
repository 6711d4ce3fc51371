"""A frame as players show it: all eight orientations to the byte, square pixels, scaled down."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import SHORT_GOP, Recipe, numbered_frame, write_media

from cmmixer_hf.media.framing import orient
from cmmixer_hf.media.reading import read_frames

# Matrix (a, b, c, d) of ISO/IEC 14496-12: (x, y) is shown at (a x + c y, b x + d y), y downward.
ORIENTATIONS = {
    "upright": ((1, 0, 0, 1), lambda p: p),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda p: p[::-1]),
    "half turn": ((-1, 0, 0, -1), lambda p: p[::-1, ::-1]),
    "transposed": ((0, 1, 1, 0), lambda p: p.transpose(1, 0, 2)),
    "quarter turn": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "three quarters": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "other diagonal": ((0, -1, -1, 0), lambda p: np.rot90(p, 2).transpose(1, 0, 2)),
}


def place_pixels(pixels: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Each pixel put where the standard's formula says, corners moved to the origin."""
    a, b, c, d = matrix
    y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
    across, down = a * x + c * y, b * x + d * y
    across, down = across - across.min(), down - down.min()
    shown = np.zeros((down.max() + 1, across.max() + 1, 3), np.uint8)
    shown[down, across] = pixels
    return shown


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_all_eight_orientations(media_file, tmp_path, name):
    matrix, expected = ORIENTATIONS[name]
    data = bytearray(media_file("short.mp4").read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = data.index(b"tkhd") + 44
    data[place : place + 20] = struct.pack(">5i", a, b, 0, c, d)
    path: Path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    upright, shown = (read_frames(file, [1.0])[0] for file in (media_file("short.mp4"), path))
    np.testing.assert_array_equal(shown, expected(upright))
    np.testing.assert_array_equal(shown, place_pixels(upright, matrix))
    np.testing.assert_array_equal(orient(upright, matrix), shown)


@pytest.mark.parametrize(
    ("aspect", "shape"), [("64/45", (96, 228)), ("8/9", (108, 160)), ("1/1", (96, 160)), ("1000/1", (96, 160))]
)
def test_pixels_become_square(tmp_path, aspect, shape):
    path = tmp_path / "wide.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=SHORT_GOP)
        stream.height, stream.width, stream.pix_fmt = 96, 160, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        frame = av.VideoFrame.from_ndarray(numbered_frame(1), format="rgb24")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert read_frames(path, [0.0]).shape[1:3] == shape
    assert min(read_frames(path, [0.0], shorter_side=48).shape[1:3]) == 48


def test_the_same_frame_is_converted_once(tmp_path):
    path = write_media(tmp_path / "slow.mp4", Recipe("libx264", picture=SHORT_GOP, seconds=2))
    pictures = read_frames(path, [0.5, 0.505, 0.51])
    np.testing.assert_array_equal(pictures[0], pictures[2])
