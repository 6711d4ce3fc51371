"""Read and write media files: a path goes in, frames and waveforms come out (§3.2, §4.3).

All times are seconds on one timeline per file. Its zero is where the earlier of picture and sound starts, so the two
keep in step. "The frame at t" is the last one presented at or before t. Whatever is wrong is a `MediaError`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .decoding import FrameReader
from .opening import MediaError, Path, Source, open_source
from .sound import Waves, read_sound
from .writing import Frames, write_clip

__all__ = [
    "Clip",
    "MediaError",
    "MediaInfo",
    "Sampling",
    "probe",
    "read_clip",
    "read_frames",
    "read_windows",
    "segment_midpoints",
    "write_clip",
]

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds: `duration` in seconds, width and height as stored (before rotation); None where missing."""

    path: str
    duration: float
    width: int | None
    height: int | None
    fps: float | None
    video_codec: str | None
    audio_codec: str | None
    sampling_rate: int | None
    channels: int | None

    @property
    def has_video(self) -> bool:
        """Whether there is a moving picture; cover art is none."""
        return self.video_codec is not None

    @property
    def has_audio(self) -> bool:
        """Whether there is an audio stream; it may still be silent."""
        return self.audio_codec is not None


@dataclass(frozen=True)
class Clip:
    """K frames (K, H, W, 3) uint8 RGB, K waveforms (K, S) float32 in [-1, 1], the K instants, and the length cut up."""

    frames: Frames | None
    waveforms: Waves | None
    times: Times
    duration: float


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled (§4.3): K instants, the seconds and Hz of sound around each, the pixels of a frame."""

    num_frames: int = 8
    window_seconds: float = 2.6
    sampling_rate: int = 16000
    shorter_side: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive, got {value}")


def segment_midpoints(duration: float, num_frames: int, *, start: float = 0.0) -> Times:
    """Middles (K,) of `num_frames` equal parts of the `duration` seconds after `start` (§3.2).

    >>> segment_midpoints(8.0, 4).tolist()
    [1.0, 3.0, 5.0, 7.0]
    """
    if num_frames < 1 or not 0 < duration < math.inf:
        raise ValueError(f"expected a positive duration and at least 1 frame, got {duration} s and {num_frames}")
    middles = start + (np.arange(num_frames) + 0.5) * (duration / num_frames)
    return middles.astype(np.float64, copy=False)


def probe(path: Path) -> MediaInfo:
    """Describe a file without decoding it. Raises MediaError."""
    with open_source(path) as source:
        video = source.video.codec_context if source.video else None
        audio = source.audio.codec_context if source.audio else None
        rate = source.video.average_rate if source.video else None
        return MediaInfo(
            path=source.path,
            duration=source.duration,
            width=video.width if video else None,
            height=video.height if video else None,
            fps=float(rate) if rate else None,
            video_codec=video.name if video else None,
            audio_codec=audio.name if audio else None,
            sampling_rate=audio.sample_rate if audio else None,
            channels=audio.channels if audio else None,
        )


def read_frames(path: Path, times: npt.ArrayLike, *, shorter_side: int | None = None) -> Frames:
    """Frames at `times` (K,) seconds, in any order, as (K, H, W, 3) uint8 RGB with the file's rotation applied.

    Before the first frame the first one is given. With `shorter_side`, larger pictures are scaled down to that many
    pixels, their aspect kept. Raises MediaError, also where the picture ends more than half a second too early.
    """
    instants, sampling = _as_times(times), Sampling(shorter_side=shorter_side)
    with open_source(path) as source:
        return _frames(source, instants, sampling)


def read_windows(path: Path, times: npt.ArrayLike, *, window_seconds: float = 2.6, sampling_rate: int = 16000) -> Waves:
    """Mono sound around each of `times` (K,) seconds: (K, S) in [-1, 1] with S = round(window_seconds * sampling_rate).

    A window that would stick out of the sound is shifted inward, however far that is; zeros follow only a sound that is
    shorter than one window. Raises MediaError.
    """
    instants, sampling = _as_times(times), Sampling(window_seconds=window_seconds, sampling_rate=sampling_rate)
    with open_source(path) as source:
        return _windows(source, instants, sampling, within=(0.0, math.inf))


def read_clip(
    path: Path,
    sampling: Sampling = Sampling(),
    *,
    start: float | None = None,
    end: float | None = None,
    video: bool = True,
    audio: bool = True,
) -> Clip:
    """Cut [start, end] seconds of a file into K equal parts; from the middle of each one frame and the sound around it.

    The sound stays inside [start, end] too. What is not asked for is None. What is asked for and missing is a
    MediaError, as is a section that the file does not reach; an `end` after the file's end is moved there.
    """
    with open_source(path) as source:
        first, last = start or 0.0, source.duration if end is None else min(end, source.duration)
        if not 0 <= first < last:
            reason = f"holds {source.duration:.2f} s, nothing from {first} to {last} s"
            raise MediaError(source.path, reason, "choose start and end inside the file")
        times = segment_midpoints(last - first, sampling.num_frames, start=first)
        within = (first, math.inf if end is None else last)
        waveforms = _windows(source, times, sampling, within=within) if audio else None
        frames = _frames(source, times, sampling) if video else None
        return Clip(frames, waveforms, times, last - first)


def _frames(source: Source, times: Times, sampling: Sampling) -> Frames:
    reader = FrameReader(source)
    pictures: dict[int, Frames] = {}
    width = height = 0
    for place in np.argsort(times, kind="stable"):
        frame = reader.frame_at(float(times[place]))
        if not pictures:  # should the size change later, the first one's holds
            shorter = min(frame.width, frame.height)
            scale = min(sampling.shorter_side or shorter, shorter) / shorter
            width, height = round(frame.width * scale), round(frame.height * scale)
        pixels = frame.reformat(width, height, "rgb24", interpolation="AREA", threads=1).to_ndarray()
        pictures[place] = np.rot90(pixels, round(frame.rotation / 90))  # degrees, counter-clockwise
    return np.stack([pictures[place] for place in range(len(times))])


def _windows(source: Source, times: Times, sampling: Sampling, *, within: tuple[float, float]) -> Waves:
    """Windows centred on `times`, shifted so that they stay in the sound and `within` (start, end) seconds."""
    length, rate = sampling.window_seconds, sampling.sampling_rate
    latest = max(within[0], within[1] - length)
    sound = read_sound(source, np.clip(times - length / 2, within[0], latest), length, rate)
    first, last = sound.extent(*within)
    if first >= last:
        raise MediaError(source.path, "its audio stream holds no sound", "leave it out or read it with audio=False")
    starts = np.clip(np.rint((times - length / 2) * rate), first, max(first, last - sound.size)).astype(int)
    windows = sound.windows(starts, last)
    if not np.isfinite(windows).all():
        raise MediaError(source.path, "its sound holds NaN or infinite samples", "convert it again")
    return np.clip(windows, -1, 1)


def _as_times(times: npt.ArrayLike) -> Times:
    instants = np.asarray(times, dtype=np.float64)
    if instants.ndim != 1 or not len(instants) or not np.isfinite(instants).all():
        raise ValueError(f"expected a list of at least one finite instant in seconds, got {times!r}")
    return instants
