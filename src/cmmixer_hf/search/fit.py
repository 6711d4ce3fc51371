"""`cmmixer fit`: a clip with a section of a track as its music."""

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from av.audio.resampler import AudioResampler

from ..data.prepared_clips import SourceError
from ..media.reading import MediaError, probe
from ..media.sound import Waves
from ..media.soundtrack import read_stereo, write_with_sound
from ..settings import FitSettings
from .index import clock
from .measuring import TEMPO_RATE, as_frames, find_beats, loudness

RATE = 48000  # Hz, of what is written
USUAL_LOUDNESS = -16.0  # LUFS, where the clip has no sound of its own to follow
HIGHEST_PEAK = 0.89  # of full scale, −1 dB
CUT_WITHIN = 2.0  # seconds before the clip's end in which a beat is looked for
RING, SHORTEST_RING = 0.5, 0.25  # seconds in which the last beat fades
FADE_IN = 0.05  # seconds
DUCKED = 10 ** (-12 / 20)  # the music's gain under the clip's own sound
HEARD = 10 ** (-40 / 20)  # effective value from which the clip's own sound counts as heard
BLOCK, GLIDE = 0.1, 0.5  # seconds in which it is listened to, and in which the gain glides
_TRACK_AT = re.compile(r"(?P<path>.+)@(?P<time>(\d+:){0,2}\d+(\.\d+)?)")


def fit(settings: FitSettings) -> None:
    """Write the clip with the track's section under it, and say what was done.

    Raises:
        MediaError: clip or track cannot be used.
        SourceError: the result would overwrite one of them, or the loudness is no number.
    """
    track, start = parse_place(settings.track)
    if any(Path(settings.output).resolve() == Path(file).resolve() for file in (track, settings.video)):
        raise SourceError(f"{settings.output} is one of the files that are read: write to another")
    if settings.loudness is not None and not math.isfinite(settings.loudness):
        raise SourceError(f"--loudness is a number of LUFS such as -16, got {settings.loudness}")
    end = lay_under(settings.video, track, start, settings.output, duck=settings.duck, target=settings.loudness)
    print(f"{settings.output}: {settings.video} with {track} from {clock(start)}, which ends at {end:.2f} s")


def lay_under(
    video: str, track: str, start: float, output: str, *, duck: bool = False, target: float | None = None
) -> float:
    """Write `video` with the music of `track` from `start` seconds on under it; where the music ends, in seconds.

    The music ends on a beat near the clip's end, and is as loud as the clip's own sound, which it replaces, unless
    `duck`: then both are heard, and the music makes room.

    Raises:
        MediaError: clip or track cannot be used.
    """
    info = probe(video)
    if not info.has_video:
        raise MediaError(video, "has no picture to lay music under", "give a video")
    own = read_stereo(video, 0.0, info.duration, RATE) if info.has_audio else None
    music = read_stereo(track, start, info.duration, RATE)
    music, end = end_on_a_beat(music, round(info.duration * RATE))
    of_own = None if own is None else loudness(own, RATE)
    music = at_loudness(music, next(level for level in (target, of_own, USUAL_LOUDNESS) if level is not None))
    if duck and own is not None:
        music = duck_under(music, own)
    write_with_sound(output, video, music, sampling_rate=RATE)
    return end


def parse_place(text: str) -> tuple[str, float]:
    """Read `TRACK@M:SS`; a file that has such a name is taken by its name, and from its beginning.

    >>> parse_place("song.ogg@1:02:03.5"), parse_place("me@home.ogg")
    (('song.ogg', 3723.5), ('me@home.ogg', 0.0))
    """
    match = _TRACK_AT.fullmatch(text)
    if match is None or Path(text).exists():
        return text, 0.0
    parts = match["time"].split(":")
    return match["path"], sum(float(part) * 60**power for power, part in enumerate(reversed(parts)))


def end_on_a_beat(music: Waves, length: int) -> tuple[Waves, float]:
    """Music (2, N) at [`RATE`] cut and filled with silence to `length` samples, and where it ends in seconds.

    The last beat before its end rings out; where none is near, the last [`CUT_WITHIN`] seconds fade.
    """
    end = min(music.shape[1], length) / RATE
    beat = last_beat(_beats(music[:, :length]), end)
    silent = min(end, beat + RING)
    gain = np.interp(np.arange(length) / RATE, [0.0, FADE_IN, max(beat, FADE_IN), silent], [0.0, 1.0, 1.0, 0.0])
    padded = np.pad(music[:, :length], ((0, 0), (0, max(0, length - music.shape[1]))))
    return (padded * gain).astype(np.float32), silent


def last_beat(beats: Sequence[float] | Waves, end: float) -> float:
    """The last beat with time to ring out before `end`, or else where a fade begins, in seconds.

    >>> last_beat([1.0, 2.0, 3.0, 3.95], 4.0), last_beat([], 10.0)
    (3.0, 9.5)
    """
    near = [float(beat) for beat in beats if end - CUT_WITHIN <= beat <= end - SHORTEST_RING]
    return max(near, default=max(0.0, end - RING))


def at_loudness(music: Waves, target: float) -> Waves:
    """Music (2, N) at a loudness in LUFS, or as near to it as its peaks allow; silence stays silence."""
    measured, peak = loudness(music, RATE), float(np.abs(music).max(initial=0.0))
    if measured is None or not peak:
        return music
    return music * min(10 ** ((target - measured) / 20), HIGHEST_PEAK / peak)


def duck_under(music: Waves, own: Waves) -> Waves:
    """The clip's own sound (2, N) with music (2, M) under it, which is lower wherever that is heard: (2, M)."""
    own = np.pad(own[:, : music.shape[1]], ((0, 0), (0, max(0, music.shape[1] - own.shape[1]))))
    block = round(BLOCK * RATE)
    blocks = np.pad(own, ((0, 0), (0, -own.shape[1] % block))).reshape(2, -1, block)
    gains = np.where(np.sqrt((blocks**2).mean((0, 2))) > HEARD, DUCKED, 1.0)
    width = round(GLIDE / BLOCK)
    gains = np.convolve(np.pad(gains, width // 2, mode="edge"), np.full(width, 1 / width), "valid")
    middles = (np.arange(len(gains)) + 0.5) * block
    both = own + music * np.interp(np.arange(music.shape[1]), middles, gains).astype(np.float32)
    return both * min(1.0, HIGHEST_PEAK / max(float(np.abs(both).max(initial=0.0)), 1e-9))


def _beats(music: Waves) -> Waves:
    resampler = AudioResampler("fltp", "mono", TEMPO_RATE)
    parts = [part.to_ndarray()[0] for frame in as_frames(music, RATE) for part in resampler.resample(frame)]
    return find_beats(np.concatenate(parts))[0] if parts else np.empty(0, np.float32)
