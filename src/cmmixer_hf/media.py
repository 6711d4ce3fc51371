"""Read and write media files: a path goes in, frames and waveforms come out (§3.2, §4.3). No other file opens media.

All times are seconds on one timeline per file. Its zero is where the earlier of picture and sound starts, so the two
keep in step. "The frame at t" is the last one presented at or before t. Whatever is wrong is a `MediaError`.
"""

from __future__ import annotations

import heapq
import math
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import Any, Literal, NoReturn

import av
import numpy as np
import numpy.typing as npt
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Path = str | os.PathLike[str]
Times = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
Waves = npt.NDArray[np.float32]

MAX_PIXELS = 8192 * 4320  # 8K; a tiny file can announce a picture that fills the memory
TICK = 1e-6  # seconds of slack when time stamps are compared: t = n / fps is rarely exact
END_TOLERANCE = 0.5  # seconds by which picture or data may fall short: sound often outlasts the picture
GAP = 0.04  # seconds between expected and found sound that make a hole; Vorbis in WebM is stamped 0.02 off and on
PRE_ROLL = 1.0  # seconds of sound decoded ahead of the wanted, until the decoder has settled
SKIP_MARGIN = 0.4  # seconds before a target from which on every frame is decoded
FAR = 2.0  # seconds ahead from which seeking pays in a file that does not list its key frames
LONGEST = 1e6  # seconds; a header that says more than eleven days is wrong

# A playlist or a concatenation list could make a local file read other files or the network.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,asf,wav,aiff,mp3,flac,ogg,aac"
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
UNTIMED_FORMATS = {"mp3", "aac"}  # their headers hold no duration, only a bit rate to guess one from
# AVI stamps the order of decoding only, MPEG program streams stamp few frames: both are right only from the start on.
ONE_PASS_FORMATS = {"avi", "mpeg"}
# FFmpegError is the rule; the others were seen on damaged files too.
DECODE_ERRORS = (
    av.FFmpegError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
)


class MediaError(Exception):
    """A file that cannot be used: which one, why, and what to do about it, on one line."""

    def __init__(self, path: str, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # all three, so that it can be pickled between processes
        self.path, self.reason, self.advice = path, reason, advice

    def __str__(self) -> str:
        return " ".join(f"{self.path}: {self.reason}; {self.advice}".split())


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
    """Middles (K,) of `num_frames` equal parts of the `duration` seconds after `start` (§3.2)."""
    if num_frames < 1 or not 0 < duration < math.inf:
        raise ValueError(f"expected a positive duration and at least 1 frame, got {duration} s and {num_frames}")
    middles = start + (np.arange(num_frames) + 0.5) * (duration / num_frames)
    return middles.astype(np.float64, copy=False)


def probe(path: Path) -> MediaInfo:
    """Describe a file without decoding it. Raises MediaError."""
    with _open(path) as source:
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
    with _open(path) as source:
        return _frames(source, instants, sampling)


def read_windows(path: Path, times: npt.ArrayLike, *, window_seconds: float = 2.6, sampling_rate: int = 16000) -> Waves:
    """Mono sound around each of `times` (K,) seconds: (K, S) in [-1, 1] with S = round(window_seconds * sampling_rate).

    A window that would stick out of the sound is shifted inward, however far that is; zeros follow only a sound that is
    shorter than one window. Raises MediaError.
    """
    instants, sampling = _as_times(times), Sampling(window_seconds=window_seconds, sampling_rate=sampling_rate)
    with _open(path) as source:
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
    with _open(path) as source:
        first, last = start or 0.0, source.duration if end is None else min(end, source.duration)
        if not 0 <= first < last:
            reason = f"holds {source.duration:.2f} s, nothing from {first} to {last} s"
            raise MediaError(source.path, reason, "choose start and end inside the file")
        times = segment_midpoints(last - first, sampling.num_frames, start=first)
        within = (first, math.inf if end is None else last)
        waveforms = _windows(source, times, sampling, within=within) if audio else None
        frames = _frames(source, times, sampling) if video else None
        return Clip(frames, waveforms, times, last - first)


def write_clip(
    path: Path, frames: Frames | None, waveform: Waves | None, *, fps: float = 25.0, sampling_rate: int = 16000
) -> None:
    """Write frames (T, H, W, 3) and sound (N,) or (C, N) in [-1, 1] as an MP4 of H.264 and AAC; either may be None.

    H and W must be even, C 1 or 2. The file appears under its name only when it is complete.
    """
    if frames is None and waveform is None:
        raise ValueError("expected frames, a waveform or both, got neither")
    if frames is not None and (frames.ndim != 4 or frames.shape[3] != 3 or frames.shape[1] % 2 or frames.shape[2] % 2):
        raise ValueError(f"expected frames (T, H, W, 3) of even height and width, got {frames.shape}")
    folder, name = os.path.split(os.path.abspath(path))
    partial = os.path.join(folder, f".{name}.{os.getpid()}.part")
    try:
        with av.open(partial, "w", format="mp4") as container:
            _encode(container, frames, waveform, fps=Fraction(fps).limit_denominator(1001), rate=sampling_rate)
        os.replace(partial, path)
    finally:
        with suppress(FileNotFoundError):
            os.remove(partial)


def _encode(
    container: OutputContainer, frames: Frames | None, waveform: Waves | None, *, fps: Fraction, rate: int
) -> None:
    tracks: list[Iterator[tuple[float, list[Packet]]]] = []
    if frames is not None:
        picture = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
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


@contextmanager
def _open(path: Path) -> Iterator[_Source]:
    """Open a file, close it afterwards, and turn whatever PyAV raises meanwhile into a MediaError."""
    try:
        source = _Source(path)
        with closing(source):
            yield source
    except DECODE_ERRORS as error:
        what = getattr(error, "strerror", None) or error
        reason = f"damaged, truncated or not a known media file ({type(error).__name__}: {what})"
        raise MediaError(os.fspath(path), reason, "check that it plays; fetch or convert it again") from error


def _check_file(path: Path) -> str:
    """Absolute name of a regular, non-empty local file: opening a pipe or a device would block for ever."""
    name = os.fspath(path)
    if "://" in name:
        raise MediaError(name, "is an address, not a file", "download it first")
    try:
        status = os.stat(name)
    except (OSError, ValueError) as error:
        raise MediaError(name, f"cannot be read ({error})", "check the path and its permissions") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise MediaError(name, f"is {kind}, not a regular file", "give the path of one media file")
    if status.st_size == 0:
        raise MediaError(name, "is empty", "fetch it again")
    return os.path.abspath(name)


class _Source:
    """An open file with its main picture and sound; `origin` is the time stamp where its timeline begins."""

    container: InputContainer
    video: Any  # VideoStream or None
    audio: Any  # AudioStream or None

    def __init__(self, path: Path) -> None:
        self.path, self._name = os.fspath(path), _check_file(path)
        self.origin = self.reached = 0.0  # `reached`: end of the data read since `packets` was called
        self._load()
        streams = [stream for stream in (self.video, self.audio) if stream]
        if not streams:
            raise MediaError(self.path, "has neither a video nor an audio stream", "give a video or a sound file")
        # What is stamped before zero is an encoder's run-up, which is not played.
        self.origin = max(0.0, min(float((s.start_time or 0) * (s.time_base or 0)) for s in streams))
        self.duration = self._duration(streams)

    def close(self) -> None:
        self.container.close()

    def reopen(self) -> None:
        """Go back to the first packet, which seeking does not reach in every format."""
        self.close()
        self._load()

    def _load(self) -> None:
        self.container = av.open(self._name, options=OPEN_OPTIONS, metadata_errors="ignore")
        self.video, self.audio = self._main("video"), self._main("audio")
        if self.video:
            context = self.video.codec_context
            if context.width * context.height > MAX_PIXELS:
                reason = f"its picture of {context.width} x {context.height} is too large"
                raise MediaError(self.path, reason, f"scale it below {MAX_PIXELS} pixels")
            context.options = {"max_pixels": str(MAX_PIXELS)}  # the size may also change on the way
            context.thread_type, context.thread_count = "NONE", 1  # workers run in parallel over files

    def _main(self, kind: Literal["video", "audio"]) -> Stream | None:
        """The stream of a kind that FFmpeg would choose, unless it is cover art or has no decoder."""
        best, streams = self.container.streams.best(kind), getattr(self.container.streams, kind)
        usable = [s for s in streams if s.codec_context and not s.disposition & Disposition.attached_pic]
        return best if best in usable else next(iter(usable), None)

    def _duration(self, streams: list[Stream]) -> float:
        """Length in seconds: the header's word if it can be believed, else counted from the packets."""
        stated = (self.container.duration or 0) / av.time_base
        if 0 < stated < LONGEST and self.container.format.name not in UNTIMED_FORMATS:
            return stated
        for _ in self.packets(*streams):
            pass
        if not 0 < self.reached < LONGEST:
            raise MediaError(self.path, "holds no timed picture or sound", "check that it plays, or convert it")
        self.reopen()
        return self.reached

    def require(self, kind: Literal["video", "audio"]) -> Any:
        """The stream of a kind; MediaError if there is none."""
        stream = getattr(self, kind)
        if stream is None:
            raise MediaError(self.path, f"has no {kind} stream", f"leave it out or read it with {kind}=False")
        return stream

    def seconds(self, stamped: Packet | VideoFrame | AudioFrame) -> float | None:
        """Where a packet or frame lies on the timeline; None without a time stamp."""
        stamp = stamped.dts if stamped.pts is None else stamped.pts
        return None if stamp is None else float(stamp * (stamped.time_base or 0)) - self.origin

    def packets(self, *streams: Stream) -> Iterator[Packet]:
        """Packets from here to the end of the file, where each stream ends in an empty one."""
        self.reached = 0.0
        try:
            for packet in self.container.demux(*streams):
                length = float((packet.duration or 0) * packet.time_base)
                self.reached = max(self.reached, (self.seconds(packet) or 0.0) + length)
                yield packet
        except av.FFmpegError as error:
            self.cut_off(f"after {self.reached:.1f} s ({error.strerror})", error)

    def decode(self, packet: Packet, *, tolerant: bool) -> list[Any]:
        """Frames of a packet; `tolerant` before the first, as one may have landed between key frames or in padding."""
        try:
            return packet.decode()
        except av.InvalidDataError as error:
            if not tolerant:
                self.cut_off(f"near {self.seconds(packet) or 0.0:.1f} s ({error.strerror})", error)
            return []

    def cut_off(self, where: str, cause: Exception | None = None) -> NoReturn:
        """Report a file that holds less than it promises."""
        raise MediaError(self.path, f"truncated or damaged {where}", "fetch it again or cut it anew") from cause


class _FrameReader:
    """Finds the frame shown at an instant; quickest when asked in the order of time."""

    def __init__(self, source: _Source) -> None:
        self.source, self.stream, self.target = source, source.require("video"), 0.0
        self._start_from(iter(()))
        codec = self.stream.codec_context
        self.format = source.container.format.name
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
            self.source.reopen()
            self.stream = self.source.video
        else:
            with suppress(av.FFmpegError):  # it cannot seek: the next attempt goes further back
                self.source.container.seek(self._ticks(max(self.target - back, 0.0)), stream=self.stream)
        self._start_from(self._decode())

    def _decode(self) -> Iterator[VideoFrame]:
        """Frames from here on, in the order of presentation."""
        started, stamps = False, deque[int | None]()
        for packet in self.source.packets(self.stream):
            self.stream.codec_context.skip_frame = "NONREF" if self._skips(packet) else "DEFAULT"
            frames = self.source.decode(packet, tolerant=not started)
            started = started or bool(frames)
            if self.format == "avi":  # frames leave in the order of presentation: each takes the next stamp
                stamps.extend([packet.dts] if packet.size else [])
                for frame in frames:
                    frame.pts = stamps.popleft() if stamps else frame.pts
            yield from frames

    def _skips(self, packet: Packet) -> bool:
        """Frames that no other refers to need no decoding until shortly before the target."""
        instant = self.source.seconds(packet)
        if not self.may_skip or instant is None or instant > self.target - SKIP_MARGIN:
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
        if self.current and not self.ahead and self.target > self.source.reached + END_TOLERANCE:
            self.source.cut_off(f"after {self.source.reached:.1f} s of picture, {self.target:.1f} s wanted")
        return self.current


def _frames(source: _Source, times: Times, sampling: Sampling) -> Frames:
    reader = _FrameReader(source)
    pictures: dict[int, Frames] = {}
    width = height = 0
    for place in np.argsort(times, kind="stable"):
        frame = reader.frame_at(float(times[place]))
        if not pictures:  # should the size change later, the first one's holds
            shorter = min(frame.width, frame.height)
            scale = min(sampling.shorter_side or shorter, shorter) / shorter
            width, height = round(frame.width * scale), round(frame.height * scale)
        pixels = frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
        pictures[place] = np.rot90(pixels, round(frame.rotation / 90))  # degrees, counter-clockwise
    return np.stack([pictures[place] for place in range(len(times))])


class _Sound:
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


def _read_sound(source: _Source, start: float, end: float, rate: int) -> _Sound:
    """Decode [start, end] in one pass, never seeking: only counting samples is exact in every format."""
    stream, sound = source.require("audio"), _Sound(rate)
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


def _windows(source: _Source, times: Times, sampling: Sampling, *, within: tuple[float, float]) -> Waves:
    """Windows centred on `times`, shifted so that they stay in the sound and `within` (start, end) seconds."""
    length, rate = sampling.window_seconds, sampling.sampling_rate
    size = round(length * rate)
    earliest = max(within[0], float(times.min()) - 2 * length)  # with room for a shift
    latest = min(within[1], max(float(times.max()) + length / 2, earliest + length) + 1 / rate)
    sound = _read_sound(source, earliest, latest, rate)
    first, last = sound.extent(earliest, within[1])
    if last - first < size and earliest > within[0]:  # the sound ends before the first window does
        source.reopen()
        sound = _read_sound(source, within[0], latest, rate)
        first, last = sound.extent(*within)
    if first >= last:
        raise MediaError(source.path, "its audio stream holds no sound", "leave it out or read it with audio=False")
    starts = np.clip(np.rint((times - length / 2) * rate), first, max(first, last - size)).astype(int)
    windows = np.stack([sound.window(start, last, size) for start in starts])
    if not np.isfinite(windows).all():
        raise MediaError(source.path, "its sound holds NaN or infinite samples", "convert it again")
    return np.clip(windows, -1, 1)


def _as_times(times: npt.ArrayLike) -> Times:
    instants = np.asarray(times, dtype=np.float64)
    if instants.ndim != 1 or not len(instants) or not np.isfinite(instants).all():
        raise ValueError(f"expected a list of at least one finite instant in seconds, got {times!r}")
    return instants
