"""Decode the sound of a file to mono at one rate, in one pass, as far as windows of it are wanted (§4.3)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.packet import Packet

from .downmix import MonoResampler
from .opening import END_TOLERANCE, MOST_DAMAGE, Extract, MediaError, Source

Waves = npt.NDArray[np.float32]

GAP = 0.04  # seconds between expected and found sound that make a hole; Vorbis in WebM is stamped 0.02 off and on
PRE_ROLL = 1.0  # seconds of sound decoded ahead of the wanted, until the decoder has settled
MARGIN = 0.2  # seconds kept around the wanted: packets, decoder and resampler do not begin and end alike
# Where stamps may be another packet's or are coarser than a millisecond, sound is counted from its beginning.
UNSTEADY = {"avi", "mpeg", "vorbis"}
COARSEST = 1e-3
LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # Hz; at 1 Hz a few bytes would be stretched until they fill the memory


@dataclass(frozen=True)
class Span:
    """Windows that belong together: their middles `times` (K,), and the [start, end] seconds in which they stay."""

    times: npt.NDArray[np.float64]
    start: float
    end: float

    def starts(self, length: float) -> npt.NDArray[np.float64]:
        """Where windows of `length` seconds begin (K,), as far as that is known before the sound is."""
        return np.clip(self.times - length / 2, self.start, max(self.start, self.end - length))


class Sound:
    """Mono sound: what lies in the wanted windows of `length` seconds, and the most recent sound."""

    def __init__(self, length: float, rate: int) -> None:
        self.rate, self.size = rate, round(length * rate)
        self.end, self.unbroken = 0.0, 0.0  # seconds decoded up to, and decoded without a break
        self.next = 0  # sample number that the resampler gives next
        self.length, self._begin, self._wanted = length, 0.0, deque[float]()
        self._kept, self._tail = list[tuple[int, Waves]](), deque[tuple[int, Waves]]()
        self._first = math.inf  # sample number of the first sound
        self._resampler: MonoResampler | None = None
        self._layout: tuple[object, ...] = ()

    def ask(self, starts: npt.NDArray[np.float64]) -> None:
        """Request windows from `starts` (K,) seconds on, too."""
        self._wanted = deque(sorted([*self._wanted, *np.maximum(starts, self._begin).tolist()]))

    def begin(self, instant: float) -> None:
        """The sound begins at `instant`: windows that begin before are shifted there."""
        self._begin = instant
        self._wanted = deque(max(start, instant) for start in self._wanted)

    def wants(self, begin: float, end: float) -> bool:
        """Whether [begin, end] seconds are in a window or lead up to one; to be asked in the order of time."""
        while self._wanted and self._wanted[0] + self.length + MARGIN < begin:
            self._wanted.popleft()
        return bool(self._wanted) and self._wanted[0] - PRE_ROLL <= end

    def has(self, latest: float, end: float) -> bool:
        """Whether windows are decoded of which the last begins at `latest` seconds and that stay before `end`."""
        first = self._begin * self.rate if self._first == math.inf else self._first
        return self.next > min(max(latest * self.rate + 1, first) + self.size, end * self.rate)

    def add(self, frame: AudioFrame, instant: float | None) -> None:
        """Take the next decoded frame, presented at `instant`, or right after the last if that is None."""
        instant, layout = self.end if instant is None else instant, (frame.format.name, frame.layout.name, frame.rate)
        if self._resampler is None or layout != self._layout or abs(instant - self.end) > GAP:
            self.interrupt()
            self._resampler, self._layout = MonoResampler(frame, self.rate), layout
            self.next, self.end = round(instant * self.rate), instant
        length = frame.samples / frame.sample_rate
        self.end += length  # counted: stamps are too coarse for exact windows
        self.unbroken += length
        self._keep(self._resampler.resample(frame))

    def interrupt(self, lost: float = 0.0) -> None:
        """The next frame does not continue the last one; without a time stamp, `lost` seconds lie between."""
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))
            self._resampler, self.unbroken = None, 0.0
        self.end += lost

    def windows(self, span: Span) -> Waves | None:
        """A span's windows (K, size), shifted so that they stay in it and in the sound; None if it has no sound.

        Holes, and what follows the end of a sound that is shorter than one window, are silent.
        """
        runs = list(self._runs())
        length = max((first + len(piece) for first, piece in runs), default=0)
        end = length if span.end == math.inf else min(length, round(span.end * self.rate))
        begin = int(max(math.ceil(span.start * self.rate - 0.5), min(self._first, end)))
        if not any(first < end and first + len(piece) > begin for first, piece in runs):
            return None
        starts = np.rint((span.times - self.length / 2) * self.rate)
        windows = np.zeros((len(starts), self.size), np.float32)
        for window, start in zip(windows, np.clip(starts, begin, max(begin, end - self.size)).astype(int), strict=True):
            for first, piece in runs:
                low, high = max(first, start), min(first + len(piece), start + self.size, end)
                if low < high:
                    window[low - start : high - start] = piece[low - first : high - first]
        return windows

    def forget(self, before: float) -> None:
        """Drop what ends before so many seconds, except for the most recent sound."""
        limit = min(before * self.rate, self.next - self.size)
        self._kept = [(first, piece) for first, piece in self._kept if first + len(piece) > limit]

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

    def _keep(self, parts: Iterable[AudioFrame]) -> None:
        for part in parts:
            first, piece = self.next, np.frombuffer(memoryview(part.planes[0]), np.float32, part.samples)
            self._first, self.next = min(self._first, first), first + len(piece)
            wanted = self.wants(first / self.rate, self.next / self.rate)
            (self._kept if wanted else self._tail).append((first, piece))
        while self._tail and self._tail[0][0] + len(self._tail[0][1]) < self.next - self.size:
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
        self.damaged = deque[tuple[float, float]]()  # instant and seconds of what could not be decoded
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
        self.sound.interrupt()

    def extract(self, span: Span) -> Extract[Waves]:
        """A span's windows (K, size) in [-1, 1]."""
        path, within = self.source.path, min(span.end, self.source.duration) - span.start
        wanted = min(within, len(span.times) * self.sound.length)  # windows may overlap
        inside = [lost for instant, lost in self.damaged if span.start <= instant <= span.end]
        if sum(inside) > MOST_DAMAGE * wanted:
            return Extract(error=MediaError(path, f"{sum(inside):.1f} s of its sound are damaged", "fetch it again"))
        windows = self.sound.windows(span)
        if windows is None:
            return Extract(error=MediaError(path, "its audio stream holds no sound", "leave it out"))
        if not np.isfinite(windows).all():
            return Extract(error=MediaError(path, "its sound holds NaN or infinite samples", "convert it again"))
        return Extract(np.clip(windows, -1, 1), damage=len(inside))

    def _remember(self, begin: float, packet: Packet) -> None:
        self.recent.append((begin, packet))
        while self.recent[0][0] < begin - self.sound.length - PRE_ROLL:
            self.recent.popleft()

    def _decode(self, packet: Packet) -> None:
        frames = self.source.decode(packet)
        if self.settled and (frames is None or any(frame.is_corrupt for frame in frames)):
            lost = float((packet.duration or 0) * (packet.time_base or 0))
            self.damaged.append((self.sound.end, lost))
            self.sound.interrupt(lost)
        for frame in frames or ():
            if not frame.is_corrupt:
                self.sound.add(frame, self.source.seconds(frame))
                self.settled = True


def read_sounds(source: Source, spans: Iterable[Span], length: float, rate: int) -> Iterator[Extract[Waves]]:
    """Windows of `length` seconds at `rate` Hz of each span, in one pass over the file; spans come in order of start.

    It never seeks: the stamps after a seek are guesses in some formats. What lies in memory are the windows of the
    spans that overlap. Raises MediaError where the file cannot be read on.
    """
    sound = Sound(length, rate)
    reader, coming, begun = SoundReader(source, sound), iter(spans), deque[tuple[Span, float]]()
    upcoming = next(coming, None)
    for packet, begin, end in source.packets(*(stream for stream in (reader.stream, source.video) if stream)):
        if packet.stream_index != reader.stream.index:
            continue
        while upcoming and upcoming.start - PRE_ROLL - MARGIN <= max(end, sound.end):
            starts = upcoming.starts(length)
            if begin is None or upcoming.end >= begin:  # else it lies in a hole, perhaps with thousands of others
                sound.ask(starts)
            begun.append((upcoming, starts.max()))
            upcoming = next(coming, None)
        reader.take(packet, begin, end)
        while begun and sound.has(begun[0][1], begun[0][0].end):
            yield reader.extract(begun.popleft()[0])
            sound.forget(begun[0][0].start if begun else math.inf)
        if not begun and not upcoming:
            return
    reader.finish()
    yield from map(reader.extract, chain((span for span, _ in begun), [upcoming] if upcoming else [], coming))
