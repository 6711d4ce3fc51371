"""Frames ↔ JPEG bytes, through PyAV so that no other library has to be there."""

from collections.abc import Sequence
from fractions import Fraction

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from .framing import Frames

BEST_QUALITY, WORST_QUALITY = 1, 31  # FFmpeg's scale of quantisers, `-q:v`


def encode_pictures(frames: Frames, quality: int = 3) -> list[bytes]:
    """Frames (K, H, W, 3) uint8 RGB as K JPEG files; `quality` is FFmpeg's, 1 (best) to 31."""
    if not BEST_QUALITY <= quality <= WORST_QUALITY:
        raise ValueError(f"JPEG quality must be {BEST_QUALITY} (best) to {WORST_QUALITY}, got {quality}")
    codec = av.CodecContext.create("mjpeg", "w")
    codec.height, codec.width = frames.shape[1:3]
    codec.pix_fmt = "yuvj444p"  # colour in full: as small as halved colour of the same fidelity, and no shift of greys
    codec.time_base = Fraction(1, 25)  # it asks for one; a picture has none
    codec.thread_type, codec.thread_count = "NONE", 1
    codec.options = {"qmin": str(quality), "qmax": str(quality)}
    packets = []
    for number, pixels in enumerate(frames):
        picture = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(format=codec.pix_fmt)
        picture.pts = number
        packets += codec.encode(picture)
    return [bytes(packet) for packet in [*packets, *codec.encode(None)]]


def decode_pictures(pictures: Sequence[bytes]) -> Frames:
    """K JPEG files of one size as frames (K, H, W, 3) uint8 RGB. Raises ValueError where one cannot be decoded.

    >>> grey = np.full((2, 30, 51, 3), 128, np.uint8)
    >>> int(np.abs(decode_pictures(encode_pictures(grey)) - grey.astype(int)).max())
    0
    """
    codec = av.CodecContext.create("mjpeg", "r")  # one for all: it takes longer to make than to use
    codec.thread_type, codec.thread_count = "NONE", 1
    reformatter = VideoReformatter()
    try:
        decoded = [frame for picture in pictures for frame in codec.decode(av.Packet(picture))]
        frames = [reformatter.reformat(frame, format="rgb24").to_ndarray() for frame in [*decoded, *codec.decode(None)]]
    except av.FFmpegError as error:
        raise ValueError(f"a stored picture cannot be decoded ({error.strerror}): prepare the clips again") from error
    if len(frames) != len(pictures):
        raise ValueError(f"only {len(frames)} of {len(pictures)} stored pictures can be decoded: prepare them again")
    return np.stack(frames)
