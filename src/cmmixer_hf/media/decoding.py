"""Find the frame shown at an instant (§4.3)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress

import av
from av.video.frame import VideoFrame

from .opening import END_TOLERANCE, MediaError, Source

TICK = 1e-6  # seconds of slack when time stamps are compared: t = n / fps is rarely exact
SKIP_MARGIN = 4  # frames before a target from which on every frame is decoded
FAR = 2.0  # seconds ahead from which seeking pays in a file that does not list its key frames
# AVI stamps the order of decoding only, MPEG program streams stamp few frames: both are right only from the start on.
ONE_PASS_FORMATS = {"avi", "mpeg"}


class FrameReader:
    """Finds the frame shown at an instant; quickest when asked in the order of time."""

    def __init__(self, source: Source) -> None:
        self.source, self.stream, self.target = source, source.require("video"), 0.0
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
        self.target = instant + TICK
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
        """Frames from here on, in the order of presentation."""
        started, stamps = False, deque[int | None]()
        for packet, begin, _ in self.source.packets(self.stream):
            self.stream.codec_context.skip_frame = "NONREF" if self._skips(begin) else "DEFAULT"
            frames = self.source.decode(packet, tolerant=not started)
            started = started or bool(frames)
            if self.format == "avi":  # frames leave in the order of presentation: each takes the next stamp
                stamps.extend([packet.dts] if packet.size else [])
                for frame in frames:
                    frame.pts = stamps.popleft() if stamps else frame.pts
            yield from frames

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
        if self.current and self.skipped > self._time(self.current) + TICK:
            self.may_skip = False  # frames far apart: the right one lies before the margin
            return None
        if self.current and not self.ahead:
            end = max(self.source.reached, self._time(self.current))
            if self.target > end + END_TOLERANCE:
                self.source.cut_off(f"after {end:.1f} s of picture, {self.target:.1f} s wanted")
        return self.current


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
