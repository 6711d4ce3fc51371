"""A decoded frame → RGB as players show it: turned and mirrored, its pixels square, scaled down (§4.3)."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

Frames = npt.NDArray[np.uint8]

MOST_STRETCH = 16  # a pixel further from square than this is a header's error


class Framer:
    """Makes RGB of the frames of one stream, all of one size: should it change on the way, the first one's holds.

    Args:
        pixel_aspect: width of a stored pixel over its height; None where it is not known, which is taken for square.
        shorter_side: pixels to which larger pictures are scaled down.
    """

    def __init__(self, pixel_aspect: Fraction | None, shorter_side: int | None) -> None:
        aspect = pixel_aspect or Fraction(1)
        self.aspect = aspect if 1 / MOST_STRETCH <= aspect <= MOST_STRETCH else Fraction(1)
        self.shorter_side, self.size = shorter_side, (0, 0)
        self._last: tuple[VideoFrame, Frames] | None = None

    def __call__(self, frame: VideoFrame) -> Frames:
        """A frame as (height, width, 3) uint8; asked again for the same frame, the same picture."""
        if self._last is None:
            self.size = self._shown_size(frame.width, frame.height)
        if self._last is None or self._last[0] is not frame:
            picture = frame.reformat(*self.size, "rgb24", interpolation="AREA", threads=1)
            self._last = frame, orient(cast(Frames, picture.to_ndarray()), display_matrix(frame))
        return self._last[1]

    def _shown_size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height, before turning: what is narrow is stretched, nothing is lost."""
        wide, tall = width * max(self.aspect, Fraction(1)), height * max(1 / self.aspect, Fraction(1))
        shorter = min(wide, tall)
        scale = min(self.shorter_side or shorter, shorter) / shorter
        return max(1, round(wide * scale)), max(1, round(tall * scale))


def display_matrix(frame: VideoFrame) -> tuple[int, int, int, int]:
    """Signs (a, b, c, d) of the frame's display matrix: (x, y) is shown at (a x + c y, b x + d y), y downward."""
    side_data: Any = frame.side_data  # its stub knows it as a mapping of names alone
    if (stored := side_data.get(Type.DISPLAYMATRIX)) is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(stored))
    turned = abs(a) + abs(d) < abs(b) + abs(c)
    kept = (0, b, c, 0) if turned else (a, 0, 0, d)  # other angles than quarter turns: the nearest
    first, second, third, fourth = ((value > 0) - (value < 0) for value in kept)
    return first, second, third, fourth


def orient(pixels: Frames, matrix: tuple[int, int, int, int]) -> Frames:
    """Turn or mirror (height, width, 3) by one of the eight matrices of [`display_matrix`]; others leave it.

    >>> orient(np.arange(6, dtype=np.uint8).reshape(1, 2, 3), (-1, 0, 0, 1))[0, :, 0].tolist()
    [3, 0]
    """
    a, b, c, d = matrix
    if b and c:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return pixels[:: d or 1, :: a or 1]
