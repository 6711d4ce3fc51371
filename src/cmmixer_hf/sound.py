"""Decode the sound of a file to mono at one rate, and cut windows out of it (§4.3)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from .opening import END_TOLERANCE, Source

Waves = npt.NDArray[np.float32]

GAP = 0.04  # seconds between expected and found sound that make a hole; Vorbis in WebM is stamped 0.02 off and on
PRE_ROLL = 1.0  # seconds of sound decoded ahead of the wanted, until the decoder has settled


class Sound:
    """Sound decoded so far in mono pieces, each from a sample number of the timeline on; a hole begins a new piece."""

    def __init__(self, rate: int) -> None:
        self.rate, self.end = rate, 0.0
        self.pieces: list[tuple[int, Waves]] = []
        self._start, self._parts = 0, list[Waves]()
        self._resampler: AudioResampler | None = None
        self._layout: tuple[object, ...] = ()

    def add(self, frame: AudioFrame, instant: float | None) -> None:
        """Take the next decoded frame, presented at `instant`, or right after the last if that is None."""
        instant, layout = self.end if instant is None else instant, (frame.format.name, frame.layout.name, frame.rate)
        if self._resampler is None or layout != self._layout or abs(instant - self.end) > GAP:
            self.flush()
            self._resampler, self._layout = AudioResampler("fltp", "mono", self.rate), layout
            self._start, self.end = round(instant * self.rate), instant
        self.end += frame.samples / frame.sample_rate  # counted: stamps are too coarse for exact windows
        self._parts.extend(part.to_ndarray()[0] for part in self._resampler.resample(frame))

    def flush(self) -> None:
        """Complete the piece at hand with what the resampler holds back."""
        if self._resampler is not None:
            self._parts.extend(part.to_ndarray()[0] for part in self._resampler.resample(None))
            self.pieces.extend([(self._start, np.concatenate(self._parts))] if self._parts else [])
            self._parts, self._resampler = [], None

    def extent(self, start: float, end: float) -> tuple[int, int]:
        """First and past-the-last sample number of what is heard in [start, end] seconds."""
        first = max(math.ceil(start * self.rate - 0.5), min((first for first, _ in self.pieces), default=0))
        last = max((first + len(piece) for first, piece in self.pieces), default=0)
        return first, last if end == math.inf else min(last, round(end * self.rate))

    def window(self, start: int, end: int, size: int) -> Waves:
        """Samples `start` to `end`, `size` of them: silent in holes and after the end."""
        window = np.zeros(size, np.float32)
        for first, piece in self.pieces:
            low, high = max(first, start), min(first + len(piece), start + size, end)
            if low < high:
                window[low - start : high - start] = piece[low - first : high - first]
        return window


def read_sound(source: Source, start: float, end: float, rate: int) -> Sound:
    """Decode [start, end] in one pass, never seeking: only counting samples is exact in every format."""
    stream, sound = source.require("audio"), Sound(rate)
    started = False
    for packet in source.packets(*(s for s in (stream, source.video) if s)):
        instant = source.seconds(packet)
        if packet.stream_index != stream.index or (instant is not None and instant < start - PRE_ROLL):
            continue
        for frame in source.decode(packet, tolerant=not started):
            sound.add(frame, source.seconds(frame))
            started = True
        if sound.end >= end:
            break
    else:
        if source.reached < source.duration - END_TOLERANCE:
            source.cut_off(f"after {source.reached:.1f} s of {source.duration:.1f} s")
    sound.flush()
    return sound
