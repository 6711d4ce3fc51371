"""Write frames and sound as a media file."""

from __future__ import annotations

import glob
import heapq
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from operator import itemgetter

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import PyAVCallbackError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from .framing import Frames
from .opening import Path
from .sound import Waves


def write_clip(
    path: Path, frames: Frames | None, waveform: Waves | None, *, fps: float = 25.0, sampling_rate: int = 16000
) -> None:
    """Write frames (T, H, W, 3) and sound (N,) or (C, N) in [-1, 1] as an MP4 of H.264 and AAC; either may be None.

    H and W must be even, C 1 or 2. The file appears under its name only when it is complete. Raises ValueError.
    """
    if frames is None and waveform is None:
        raise ValueError("expected frames, a waveform or both, got neither")
    if frames is not None and (frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2):
        raise ValueError(f"expected frames (T, H, W, 3) of even height and width, got {frames.shape}")
    if waveform is not None and (waveform.ndim > 2 or len(np.atleast_2d(waveform)) > 2):
        raise ValueError(f"expected a waveform (N,) or (C, N) of 1 or 2 channels, got shape {waveform.shape}")
    with mp4_file(path) as container:
        _encode(container, frames, waveform, fps=Fraction(fps).limit_denominator(1001), rate=sampling_rate)


def remove_partial(path: Path) -> None:
    """Remove what processes that were killed have begun of a file."""
    folder, name = os.path.split(os.path.abspath(path))
    for partial in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*.part")):
        with suppress(FileNotFoundError):
            os.remove(partial)


@contextmanager
def mp4_file(path: Path) -> Iterator[OutputContainer]:
    """An MP4 to write, which appears under its name only when it is complete.

    It is opened here, for PyAV keeps a file open that it could not finish, and with it the space of a full disk.
    """
    folder, name = os.path.split(os.path.abspath(path))
    partial = os.path.join(folder, f".{name}.{os.getpid()}.part")
    os.makedirs(folder, exist_ok=True)
    try:
        with open(partial, "wb") as file, av.open(file, "w", format="mp4") as container:
            yield container
        os.replace(partial, path)
    except (OSError, PyAVCallbackError) as error:
        # after a write that failed PyAV cannot finish the file either, and raises an error of its own on top
        failure = error if isinstance(error, OSError) else error.__context__
        if not isinstance(failure, OSError):
            raise
        failure.filename = os.fspath(path)
        raise failure from None
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)


def _encode(
    container: OutputContainer, frames: Frames | None, waveform: Waves | None, *, fps: Fraction, rate: int
) -> None:
    tracks: list[Iterator[tuple[float, list[Packet]]]] = []
    if frames is not None:
        # Looking ahead, x264 reads beyond the border of small frames: bits would depend on what lies in memory there.
        options = {"preset": "veryfast", "rc-lookahead": "0"}
        picture = container.add_stream("libx264", rate=fps, options=options)
        picture.codec_context.thread_count = 1  # with more, the bits depend on the machine
        picture.height, picture.width, picture.pix_fmt = *frames.shape[1:3], "yuv420p"
        tracks.append(_encode_frames(picture, frames, fps))
    if waveform is not None:
        channels = np.clip(np.atleast_2d(waveform), -1, 1).astype(np.float32)
        layout = {1: "mono", 2: "stereo"}[len(channels)]
        sound = container.add_stream("aac", rate=rate, layout=layout, options={"aac_coder": "fast"})
        tracks.append(_encode_sound(sound, channels, rate))
    # In the order of time, so that picture and sound lie side by side in the file.
    for _, packets in heapq.merge(*tracks, key=itemgetter(0)):
        container.mux(packets)


def _encode_frames(stream: VideoStream, frames: Frames, fps: Fraction) -> Iterator[tuple[float, list[Packet]]]:
    for index, pixels in enumerate(frames):
        frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame.pts, frame.time_base = index, 1 / fps
        yield float(index / fps), stream.encode(frame)
    yield math.inf, stream.encode(None)


def _encode_sound(stream: AudioStream, channels: Waves, rate: int) -> Iterator[tuple[float, list[Packet]]]:
    step = max(1, rate // 4)
    for start in range(0, channels.shape[1], step):
        block = np.ascontiguousarray(channels[:, start : start + step])
        frame = AudioFrame.from_ndarray(block, "fltp", stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield start / rate, stream.encode(frame)
    yield math.inf, stream.encode(None)
