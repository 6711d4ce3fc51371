"""Read and write media files: a path goes in, frames and waveforms come out (§3.2, §4.3).

All times are seconds on one timeline per file. Its zero is where the earlier of picture and sound starts, so the two
keep in step. "The frame at t" is the last one presented at or before t. Whatever is wrong is a `MediaError`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import repeat, tee
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from .decoding import read_pictures
from .framing import Frames
from .opening import Extract, MediaError, Path, Source, open_source
from .sound import Span, Waves, read_sounds
from .writing import write_clip

__all__ = [
    "Clip",
    "FileSection",
    "MediaError",
    "MediaInfo",
    "Sampling",
    "cut_into_sections",
    "probe",
    "read_clip",
    "read_frames",
    "read_sections",
    "read_windows",
    "segment_midpoints",
    "write_clip",
]

Times = npt.NDArray[np.float64]
LONGER = 1.05  # sections; a file of so many is not cut: half a minute that lasts 30.04 s is one section


@dataclass(frozen=True)
class MediaInfo:
    """Properties of a file: `duration` in seconds, width and height as stored (before rotation); None where missing."""

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
    """K frames (K, H, W, 3) uint8 RGB, K waveforms (K, S) float32 in [-1, 1], the K instants, and the length cut up.

    `damage` counts what was skipped because it cannot be decoded, as players do: packets of sound inside the clip,
    which are silent, and frames in whose stead an earlier one is shown. Where that is more than a quarter of the clip's
    sound or of its frames there is no clip, but a [`MediaError`].
    """

    frames: Frames | None
    waveforms: Waves | None
    times: Times
    duration: float
    damage: int = 0


@dataclass(frozen=True)
class FileSection:
    """Seconds [start, end] of a file, the `number`-th of `count`, as a clip; or the error why there is none."""

    start: float
    end: float
    number: int
    count: int
    clip: Clip | None = None
    error: MediaError | None = None


@dataclass(frozen=True)
class Sampling:
    """How a clip is sampled (§4.3): K instants, the seconds and Hz of sound around each, the pixels of a frame.

    `version` counts the ways in which this package has read files: 1 mixed several channels down too loud, did not
    mirror pictures, and left pixels that are not square as they are.
    """

    version: ClassVar[int] = 2

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


def count_sections(duration: float, seconds: float | None, hop: float | None) -> int:
    """How many sections [`cut_into_sections`] makes."""
    if seconds is None or duration <= LONGER * seconds:
        return 1
    return 1 + math.ceil(round((duration - seconds) / (hop or seconds / 2), 6))


def cut_into_sections(duration: float, seconds: float | None, hop: float | None) -> Iterator[tuple[float, float]]:
    """Sections of a file, (start, end) in seconds: the first at its start, the last at its end, evenly spaced.

    Args:
        duration: of the file.
        seconds: length of a section; the whole file where it is `None`, longer, or [`LONGER`] times shorter at most.
        hop: the most that two starts lie apart; half of `seconds` where it is `None`.

    >>> list(cut_into_sections(70.0, 30.0, 15.0))
    [(0.0, 30.0), (13.333, 43.333), (26.667, 56.667), (40.0, 70.0)]
    >>> list(cut_into_sections(12.0, 30.0, 15.0)), list(cut_into_sections(30.04, 30.0, 15.0))
    ([(0.0, 12.0)], [(0.0, 30.04)])
    """
    count = count_sections(duration, seconds, hop)
    if seconds is None or count == 1:
        yield 0.0, duration
        return
    for number in range(count):
        start = (duration - seconds) * number / (count - 1)
        yield round(start, 3), round(start + seconds, 3)


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
        return next(_pictures(source, [Span(instants, 0.0, math.inf)], sampling)).get()


def read_windows(
    path: Path,
    times: npt.ArrayLike,
    *,
    window_seconds: float = Sampling.window_seconds,
    sampling_rate: int = Sampling.sampling_rate,
) -> Waves:
    """Mono sound around each of `times` (K,) seconds: (K, S) in [-1, 1] with S = round(window_seconds * sampling_rate).

    A window that would stick out of the sound is shifted inward, however far that is; zeros follow only a sound that is
    shorter than one window. Raises MediaError.
    """
    instants, sampling = _as_times(times), Sampling(window_seconds=window_seconds, sampling_rate=sampling_rate)
    with open_source(path) as source:
        return next(_sounds(source, [Span(instants, 0.0, math.inf)], sampling)).get()


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
    MediaError, as is a section that the file does not reach, and one of whose sound or frames more than a quarter is
    damaged ([`Clip`] says what becomes of less); an `end` after the file's end is moved there. Of a file that breaks
    off before the length that it states, the sections before the break are read; those beyond are MediaErrors.
    """
    with open_source(path) as source:
        first, last = start or 0.0, source.duration if end is None else min(end, source.duration)
        if not 0 <= first < last:
            wanted = f"from {first:g} s on" if end is None else f"from {first:g} to {end:g} s"
            reason = f"holds {source.duration:.2f} s, nothing {wanted}"
            raise MediaError(source.path, reason, "choose start and end inside the file")
        times = segment_midpoints(last - first, sampling.num_frames, start=first)
        span = Span(times, first, math.inf if end is None else last)
        sound = next(_sounds(source, [span], sampling)) if audio else None
        picture = next(_pictures(source, [span], sampling)) if video else None
        return _clip(picture, sound, times, last - first)


def read_sections(
    path: Path,
    sampling: Sampling = Sampling(),
    *,
    seconds: float | None = None,
    hop: float | None = None,
    video: bool = True,
    audio: bool = True,
) -> Iterator[FileSection]:
    """A file's sections of `seconds` as [`cut_into_sections`] places them, each as a clip, in one pass over the file.

    Each equals what [`read_clip`] gives for its start and end. In memory are the sections that overlap, however long
    the file is. A section that cannot be used carries its error; of several that hold nothing only the first is given.

    Raises:
        MediaError: the file cannot be opened or read on; what came before stands.
    """
    with open_source(path) as source, open_source(path) if video and audio else nullcontext(source) as other:
        count = count_sections(source.duration, seconds, hop)
        places, of_sound, of_picture = tee(cut_into_sections(source.duration, seconds, hop), 3)
        sounds = _sounds(source, _spans(source, of_sound, sampling), sampling) if audio else repeat(None)
        pictures = _pictures(other, _spans(other, of_picture, sampling), sampling) if video else repeat(None)
        last: MediaError | None = None
        for number, (place, sound, picture) in enumerate(zip(places, sounds, pictures, strict=False)):
            section = _section(place, (number, count), picture, sound, sampling)
            if section.error is None or str(section.error) != str(last):
                yield section
            last = section.error


def _spans(source: Source, places: Iterable[tuple[float, float]], sampling: Sampling) -> Iterator[Span]:
    for start, end in places:
        times = segment_midpoints(end - start, sampling.num_frames, start=start)
        yield Span(times, start, math.inf if end - start == source.duration else end)


def _section(
    place: tuple[float, float],
    number: tuple[int, int],
    picture: Extract[Frames] | None,
    sound: Extract[Waves] | None,
    sampling: Sampling,
) -> FileSection:
    start, end = place
    times = segment_midpoints(end - start, sampling.num_frames, start=start)
    try:
        return FileSection(start, end, *number, clip=_clip(picture, sound, times, end - start))
    except MediaError as error:
        return FileSection(start, end, *number, error=error)


def _clip(picture: Extract[Frames] | None, sound: Extract[Waves] | None, times: Times, duration: float) -> Clip:
    damage = sum(extract.damage for extract in (picture, sound) if extract)
    frames, waveforms = picture.get() if picture else None, sound.get() if sound else None
    return Clip(frames, waveforms, times, duration, damage)


def _sounds(source: Source, spans: Iterable[Span], sampling: Sampling) -> Iterator[Extract[Waves]]:
    return read_sounds(source, spans, sampling.window_seconds, sampling.sampling_rate)


def _pictures(source: Source, spans: Iterable[Span], sampling: Sampling) -> Iterator[Extract[Frames]]:
    return read_pictures(source, (span.times for span in spans), sampling.shorter_side)


def _as_times(times: npt.ArrayLike) -> Times:
    instants = np.asarray(times, dtype=np.float64)
    if instants.ndim != 1 or not len(instants) or not np.isfinite(instants).all():
        raise ValueError(f"expected a list of at least one finite instant in seconds, got {times!r}")
    return instants
