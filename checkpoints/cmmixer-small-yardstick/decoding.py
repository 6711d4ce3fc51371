"""Find the frames shown at instants (§4.3)."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame

from .framing import Framer, Frames
from .opening import END_TOLERANCE, MOST_DAMAGE, Extract, MediaError, Source

SLACK = 1e-6  # seconds of slack when time stamps are compared: t = n / fps is rarely exact
SKIP_MARGIN = 4  # frames before a target from which on every frame is decoded
FAR = 2.0  # seconds ahead from which seeking pays in a file that does not list its key frames
# AVI stamps the order of decoding only, MPEG program streams stamp few frames: both are right only from the start on.
ONE_PASS_FORMATS = {"avi", "mpeg"}


Instants = npt.NDArray[np.float64]


class FrameReader:
    """Finds the frame shown at an instant; quickest when asked in the order of time."""

    def __init__(self, source: Source) -> None:
        self.source, self.stream, self.target = source, source.require("video"), 0.0
        self._damaged = list[list[float]]()  # [begin, end] of stretches whose frames show other than was filmed
        self._start_from(iter(()))
        codec = self.stream.codec_context
        self.format = source.container.format.name
        self.step = float(1 / (self.stream.average_rate or 25))  # seconds from frame to frame
        self.can_seek = self.format not in ONE_PASS_FORMATS
        self.may_skip = self.can_seek and codec.name == "h264"  # elsewhere it saves nothing or is not safe
        if codec.name == "h264" and "444" in (codec.pix_fmt or ""):
            # Old x264 wrote 4:4:4 in its own way; the decoder learns that from the first packet alone.
            self._go(math.inf)
            next(self.frames, None)

    def frame_at(self, instant: float) -> VideoFrame:
        """Last frame presented at or before `instant`; the first frame if there is none."""
        self.target = instant + SLACK
        if self._is_near() and (frame := self._advance()):
            return frame
        # Open GOPs and files without an index land after the target: aim ever earlier and in the end start anew, twice
        # because the first time a frame may have been skipped that was needed.
        for back in (0.0, 2.0, 8.0, math.inf, math.inf) if self.can_seek else (math.inf,):
            self._go(back)
            if frame := self._advance():
                return frame
            if back == math.inf and self.ahead and not self.current:
                return self.ahead
        raise MediaError(self.source.path, "its picture cannot be decoded", "check that it plays, or convert it")

    def is_damaged(self, instant: float) -> bool:
        """Whether the frame given for an instant is an earlier one, because its own cannot be decoded."""
        return any(begin <= instant + SLACK and instant < end for begin, end in self._damaged)

    def _start_from(self, frames: Iterator[VideoFrame]) -> None:
        self.frames = frames
        self.current: VideoFrame | None = None  # the last frame passed
        self.ahead: VideoFrame | None = None  # the one after it
        self.skipped = -math.inf  # latest instant of a packet whose frame may not have been decoded

    def _is_near(self) -> bool:
        """Whether decoding on is cheaper than seeking: no key frame lies between here and the target."""
        if self.current is None or self._time(self.current) > self.target:
            return False
        here, there, index = self._ticks(self._time(self.current)), self._ticks(self.target), self.stream.index_entries
        if len(index) and index[-1].timestamp >= there:
            key = index.search_timestamp(there)
            return key < 0 or index[key].timestamp <= here
        return not self.can_seek or self.target - self._time(self.current) < FAR

    def _time(self, frame: VideoFrame) -> float:
        return self.source.seconds(frame) or 0.0

    def _ticks(self, instant: float) -> int:
        return int((instant + self.source.origin) / self.stream.time_base)

    def _go(self, back: float) -> None:
        """Move to the key frame before `back` seconds before the target; inf is the start of the file."""
        if back == math.inf:
            self.source.reopen(guess_stamps=self.format != "mpeg")
            self.stream = self.source.video
        else:
            with suppress(av.FFmpegError):  # it cannot seek: the next attempt goes further back
                self.source.container.seek(self._ticks(max(self.target - back, 0.0)), stream=self.stream)
        frames = self._decode()
        self._start_from(steady_stamps(frames, self.step / self.stream.time_base) if self.format == "mpeg" else frames)

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames from here on, in the order of presentation, but for damaged ones and what is built upon them."""
        stretch: list[float] | None = None
        for frame, instant in self._decode_all():
            if frame is None or frame.is_corrupt:
                stretch = stretch or [instant, math.inf]
                if stretch not in self._damaged:
                    self._damaged.append(stretch)
            elif stretch is None or frame.key_frame:
                if stretch:
                    stretch[1] = instant
                stretch = None
                yield frame

    def _decode_all(self) -> Iterator[tuple[VideoFrame | None, float]]:
        """All frames from here on with their instants; None where a packet cannot be decoded."""
        started, stamps = False, deque[int | None]()
        for packet, begin, _ in self.source.packets(self.stream):
            self.stream.codec_context.skip_frame = "NONREF" if self._skips(begin) else "DEFAULT"
            frames = self.source.decode(packet)
            if frames is None and started:
                yield None, self.source.reached if begin is None else begin
            if self.format == "avi":  # frames leave in the order of presentation: each takes the next stamp
                stamps.extend([packet.dts] if packet.size else [])
            for frame in frames or ():
                started = True
                if self.format == "avi":
                    frame.pts = stamps.popleft() if stamps else frame.pts
                yield frame, self._time(frame)

    def _skips(self, instant: float | None) -> bool:
        """Frames that no other refers to need no decoding until shortly before the target."""
        if not self.may_skip or instant is None or instant > self.target - SKIP_MARGIN * self.step:
            return False
        self.skipped = max(self.skipped, instant)
        return True

    def _advance(self) -> VideoFrame | None:
        """Decode until the next frame is too late; None when already the first is, or the right one was skipped."""
        while self.ahead is None or self._time(self.ahead) <= self.target:
            following = next(self.frames, None)
            if following is None:
                self.current, self.ahead = self.ahead or self.current, None
                break
            self.current, self.ahead = self.ahead, following
        if self.current and self.skipped > self._time(self.current) + SLACK:
            self.may_skip = False  # frames far apart: the right one lies before the margin
            return None
        if self.current and not self.ahead:
            end = max(self.source.reached, self._time(self.current))
            if self.target > end + END_TOLERANCE and not self.source.is_whole:
                self.source.cut_off(f"after {end:.1f} s of picture, {self.target:.1f} s wanted")
        return self.current


def read_pictures(source: Source, spans: Iterable[Instants], shorter_side: int | None) -> Iterator[Extract[Frames]]:
    """Frames (K, height, width, 3) of each span's instants (K,), in one pass; spans come in order of their first.

    What lies in memory are the frames of the spans that overlap. Raises MediaError where the file cannot be read on.
    """
    reader, coming = FrameReader(source), enumerate(spans)
    framer = Framer(reader.stream.sample_aspect_ratio, shorter_side)
    wanted, begun = list[tuple[float, int, int]](), dict[int, tuple[Instants, dict[int, Frames]]]()
    upcoming = next(coming, None)
    while wanted or upcoming:
        while upcoming and (not wanted or min(upcoming[1]) <= wanted[0][0]):
            number, times = upcoming
            begun[number] = times, {}
            for place, instant in enumerate(times.tolist()):
                heapq.heappush(wanted, (instant, number, place))
            upcoming = next(coming, None)
        instant, number, place = heapq.heappop(wanted)
        times, pictures = begun[number]
        pictures[place] = framer(reader.frame_at(instant))
        while begun and len(pictures := begun[first := min(begun)][1]) == len(begun[first][0]):
            yield _extract(source.path, reader, begun.pop(first)[0], pictures)


def _extract(path: str, reader: FrameReader, times: Instants, pictures: dict[int, Frames]) -> Extract[Frames]:
    damage = sum(map(reader.is_damaged, times.tolist()))
    if damage > MOST_DAMAGE * len(times):
        reason = f"its picture is damaged at {damage} of {len(times)} instants"
        return Extract(error=MediaError(path, reason, "fetch it again or cut it anew"))
    return Extract(np.stack([pictures[place] for place in range(len(times))]), damage)


def steady_stamps(frames: Iterable[VideoFrame], step: float) -> Iterator[VideoFrame]:
    """Stamp frames without a stamp `step` ticks after the one before, and so those that bear another frame's stamp.

    MPEG program streams stamp few frames, and where small ones share a packet FFmpeg may give a stamp to the wrong one.
    A stamp off the beat is believed where the next is off by as much, or when it is far off: there data was lost.
    """
    expected, off = math.nan, math.inf
    for frame in frames:
        ahead = math.nan if frame.pts is None else frame.pts - expected
        off_beat = step * 0.75 < abs(ahead) < step * 8
        if frame.pts is None or (off_beat and abs(ahead - off) > step / 2):
            frame.pts = None if math.isnan(expected) else round(expected)
            off = ahead if off_beat else off
        else:
            off = math.inf
        expected = expected if frame.pts is None else frame.pts + step
        yield frame
