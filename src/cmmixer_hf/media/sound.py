"""Decode the sound of a file to mono at one rate, as far as windows of it are wanted (§4.3)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.packet import Packet

from .opening import END_TOLERANCE, MediaError, Source

Waves = npt.NDArray[np.float32]

GAP = 0.04  # seconds between expected and found sound that make a hole; Vorbis in WebM is stamped 0.02 off and on
PRE_ROLL = 1.0  # seconds of sound decoded ahead of the wanted, until the decoder has settled
MARGIN = 0.2  # seconds kept around the wanted: packets, decoder and resampler do not begin and end alike
# Where stamps may be another packet's or are coarser than a millisecond, sound is counted from its beginning.
UNSTEADY = {"avi", "mpeg", "vorbis"}
COARSEST = 1e-3
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz; at 1 Hz a few bytes would be stretched until they fill the memory


class Sound:
    """Mono sound: what lies in windows of `length` seconds from `starts` (K,) seconds on, and the last heard."""

    def __init__(self, starts: npt.NDArray[np.float64], length: float, rate: int) -> None:
        self.rate, self.size = rate, round(length * rate)
        self.end, self.unbroken = 0.0, 0.0  # seconds decoded up to, and decoded without a break
        self.length, self._wanted = length, deque(np.sort(starts).tolist())
        self._kept, self._tail = list[tuple[int, Waves]](), deque[tuple[int, Waves]]()
        self._first, self._next = math.inf, 0  # sample numbers: the first heard, and the resampler's next
        self._resampler: AudioResampler | None = None
        self._layout: tuple[object, ...] = ()

    def begin(self, instant: float) -> None:
        """The first packet is heard at `instant`: windows that begin before are shifted there."""
        self._wanted = deque(max(start, instant) for start in self._wanted)

    def wants(self, begin: float, end: float) -> bool:
        """Whether [begin, end] seconds are in a window or lead up to one; to be asked in the order of time."""
        while self._wanted and self._wanted[0] + self.length + MARGIN < begin:
            self._wanted.popleft()
        return bool(self._wanted) and self._wanted[0] - PRE_ROLL <= end

    @property
    def complete(self) -> bool:
        """Whether all windows are decoded."""
        return not self._wanted or self.end > self._wanted[-1] + self.length + 1 / self.rate

    def add(self, frame: AudioFrame, instant: float | None) -> None:
        """Take the next decoded frame, presented at `instant`, or right after the last if that is None."""
        instant, layout = self.end if instant is None else instant, (frame.format.name, frame.layout.name, frame.rate)
        if self._resampler is None or layout != self._layout or abs(instant - self.end) > GAP:
            self.interrupt()
            self._resampler, self._layout = AudioResampler("fltp", "mono", self.rate), layout
            self._next, self.end = round(instant * self.rate), instant
        length = frame.samples / frame.sample_rate
        self.end += length  # counted: stamps are too coarse for exact windows
        self.unbroken += length
        self._keep(self._resampler.resample(frame))

    def interrupt(self) -> None:
        """What comes next does not follow on what came last."""
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))
            self._resampler, self.unbroken = None, 0.0

    def extent(self, start: float, end: float) -> tuple[int, int]:
        """First and past-the-last sample number of what is heard in [start, end] seconds."""
        pieces = [*self._kept, *self._tail]
        last = max((first + len(piece) for first, piece in pieces), default=0)
        first = max(math.ceil(start * self.rate - 0.5), min(self._first, last))
        return int(first), last if end == math.inf else min(last, round(end * self.rate))

    def windows(self, starts: npt.NDArray[np.int64], end: int) -> Waves:
        """Windows (K, size) of the samples from each of `starts` (K,) on: silent in holes and from `end` on."""
        windows = np.zeros((len(starts), self.size), np.float32)
        for first, piece in self._runs():
            for window, start in zip(windows, starts.tolist(), strict=True):
                low, high = max(first, start), min(first + len(piece), start + self.size, end)
                if low < high:
                    window[low - start : high - start] = piece[low - first : high - first]
        return windows

    def _runs(self) -> Iterator[tuple[int, Waves]]:
        """The pieces, joined where one follows on another."""
        run: list[Waves] = []
        begin = end = 0
        for first, piece in sorted((*self._kept, *self._tail), key=itemgetter(0)):
            if first != end and run:
                yield begin, np.concatenate(run)
                run = []
            begin = begin if run else first
            run.append(piece)
            end = first + len(piece)
        if run:
            yield begin, np.concatenate(run)

    def _keep(self, parts: list[AudioFrame]) -> None:
        for part in parts:
            first, piece = self._next, np.frombuffer(memoryview(part.planes[0]), np.float32, part.samples)
            self._first, self._next = min(self._first, first), first + len(piece)
            wanted = self.wants(first / self.rate, self._next / self.rate)
            (self._kept if wanted else self._tail).append((first, piece))
        while self._tail and self._tail[0][0] + len(self._tail[0][1]) < self._next - self.size:
            self._tail.popleft()


class SoundReader:
    """Decodes the packets that a `Sound` wants, and at the end of the file those of the last window."""

    def __init__(self, source: Source, sound: Sound) -> None:
        self.source, self.sound, self.stream = source, sound, source.require("audio")
        rate = self.stream.codec_context.sample_rate
        if rate and not LOWEST_RATE <= rate <= HIGHEST_RATE:
            reason, advice = f"its sound of {rate} Hz cannot be right", f"convert it to {LOWEST_RATE} Hz or more"
            raise MediaError(source.path, reason, advice)
        names = {source.container.format.name, self.stream.codec_context.name}
        self.may_skip = not names & UNSTEADY and self.stream.time_base <= COARSEST
        self.recent = deque[tuple[float, Packet]]()  # packets of the last seconds, decoded or not
        self.begun = self.settled = self.skipped = False

    def take(self, packet: Packet, begin: float | None, end: float) -> None:
        """Decode the next packet, unless it is not wanted."""
        if begin is None:
            return self._decode(packet)
        if not self.begun:
            self.sound.begin(begin)
            self.begun = True
        if self.may_skip:
            self._remember(begin, packet)
            if not self.sound.wants(begin, end):
                self.sound.interrupt()
                self.settled, self.skipped = False, True
                return None
        return self._decode(packet)

    def finish(self) -> None:
        """The sound has ended, perhaps before the end of a window: then what leads up to its end is wanted too."""
        if self.source.reached < self.source.duration - END_TOLERANCE:
            self.source.cut_off(f"after {self.source.reached:.1f} s of {self.source.duration:.1f} s")
        if self.skipped and self.sound.unbroken < self.sound.length:
            self.sound.interrupt()
            self.stream.codec_context.flush_buffers()
            self.settled = False
            for _, packet in self.recent:
                self._decode(packet)

    def _remember(self, begin: float, packet: Packet) -> None:
        self.recent.append((begin, packet))
        while self.recent[0][0] < begin - self.sound.length - PRE_ROLL:
            self.recent.popleft()

    def _decode(self, packet: Packet) -> None:
        for frame in self.source.decode(packet, tolerant=not self.settled):
            self.sound.add(frame, self.source.seconds(frame))
            self.settled = True


def read_sound(source: Source, starts: npt.NDArray[np.float64], length: float, rate: int) -> Sound:
    """Decode windows of `length` seconds from `starts` (K,) seconds on, at `rate` Hz, in one pass over the file.

    It never seeks: the stamps after a seek are guesses in some formats. Raises MediaError.
    """
    sound = Sound(starts, length, rate)
    reader = SoundReader(source, sound)
    for packet, begin, end in source.packets(*(stream for stream in (reader.stream, source.video) if stream)):
        if packet.stream_index == reader.stream.index:
            reader.take(packet, begin, end)
            if sound.complete:
                break
    else:
        reader.finish()
    sound.interrupt()
    return sound
