"""Open a media file and walk through its packets.

No other file opens media to read them. Seconds count from where the earlier of picture and sound starts.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, TypeVar

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame

from .chunks import is_protected, oversized_chunk

Path = str | os.PathLike[str]
Array = TypeVar("Array")

MAX_PIXELS = 8192 * 4320  # 8K; a tiny file can announce a picture that fills the memory
END_TOLERANCE = 0.5  # seconds by which picture or data may fall short: sound often outlasts the picture
STARTS_LATE = 0.1  # seconds; a first time stamp over this is no encoder's delay
MOST_DAMAGE = 0.25  # share of a clip's sound or pictures; what is damaged less is passed over, as players do
LONGEST = 1e6  # seconds; a header that states more than eleven days is wrong

# A playlist or a concatenation list could make a local file read other files or the network.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,mpegts,mpeg,avi,flv,asf,wav,aiff,mp3,flac,ogg,aac"
KNOWN_FORMATS = "MP4, MOV, 3GP, Matroska, WebM, MPEG-TS, MPEG, AVI, FLV, WMV, WAV, AIFF, MP3, FLAC, Ogg, Opus, AAC"
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
# Their clocks start anew every 26 hours; FFmpeg stamps what lies before that as negative.
WRAPPING_FORMATS = {"mpegts", "mpeg"}
UNKNOWN_FRAMES = 1 << 30  # FFmpeg's number in the header of an AVI written to a pipe, which it cannot correct later
UNTIMED_FORMATS = {"mp3", "aac"}  # their headers hold no duration, only a bit rate to guess one from
OTHER = {"video": "sound", "audio": "picture"}  # than a stream of this kind
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
    """A file that cannot be used: which one, why, and what to do about it, on one line.

    Args:
        path: of the file.
        reason: why, `"it has no sound"`.
        advice: what to do, `"leave it out"`.
    """

    def __init__(self, path: str, reason: str, advice: str) -> None:
        super().__init__(path, reason, advice)  # all three, so that it can be pickled between processes
        self.path, self.reason, self.advice = path, reason, advice

    def __str__(self) -> str:
        return " ".join(f"{self.path}: {self.reason}; {self.advice}".split())


@dataclass(frozen=True)
class Extract(Generic[Array]):
    """Data of a part of a file, or why there is none; `damage` counts what was skipped."""

    values: Array | None = None
    damage: int = 0
    error: MediaError | None = None

    def get(self) -> Array:
        """The values; raises the error."""
        if self.values is None:
            raise self.error or ValueError("an extract has values or an error, got neither")
        return self.values


@contextmanager
def open_source(path: Path) -> Iterator[Source]:
    """Open a file, close it afterwards, and turn whatever PyAV raises meanwhile into a MediaError.

    Errors of other files, such as of one that is written at the same time, stay what they are.
    """
    try:
        source = Source(path)
        with closing(source):
            yield source
    except DECODE_ERRORS as error:
        # FFmpeg's errors name a function of its own where the system's name a file.
        other = None if isinstance(error, av.FFmpegError) else getattr(error, "filename", None)
        if other and os.path.abspath(other) != os.path.abspath(path):
            raise
        what = getattr(error, "strerror", None) or error
        reason = f"damaged, truncated or not a known media file ({type(error).__name__}: {what})"
        advice = f"check that it plays; fetch it again, or convert it to one of {KNOWN_FORMATS}"
        raise MediaError(os.fspath(path), reason, advice) from error


def _check_file(path: Path) -> str:
    """Absolute name of a regular, non-empty local file: opening a pipe or a device would block for ever.

    Addresses are always refused. Who gives a path to a search service could otherwise make it call hosts of his choice;
    and seeking over a network is slow, breaks half-way, and is done better by what downloads whole files.
    """
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


class Source:
    """An open file with its main picture and sound; `origin` is the time stamp where its timeline begins."""

    container: InputContainer
    video: Any  # VideoStream or None
    audio: Any  # AudioStream or None

    def __init__(self, path: Path) -> None:
        self.path, self._name = os.fspath(path), _check_file(path)
        self.origin = self.reached = 0.0  # `reached`: end of the data read since `packets` was called
        if is_protected(self._name):
            raise MediaError(self.path, "is encrypted (DRM)", "get a copy without protection")
        self._load({})
        streams = [stream for stream in (self.video, self.audio) if stream]
        if not streams:
            raise MediaError(self.path, "has neither a video nor an audio stream", "give a video or a sound file")
        self.origin = min(float((s.start_time or 0) * (s.time_base or 0)) for s in streams)
        if self.container.format.name not in WRAPPING_FORMATS:
            self.origin = max(0.0, self.origin)  # stamped before zero is an encoder's run-up, which is not played
        self.duration = self._duration(streams)
        self._whole: bool | None = None

    def close(self) -> None:
        """Release the file."""
        self.container.close()

    def reopen(self, *, guess_stamps: bool = True) -> None:
        """Go back to the first packet, which seeking does not reach in every format."""
        self.close()
        self._load({} if guess_stamps else {"fflags": "nofillin"})

    def _load(self, options: dict[str, str]) -> None:
        if claim := oversized_chunk(self._name):
            raise MediaError(self.path, f"damaged: {claim}", "fetch or convert it again")
        self.container = av.open(self._name, options=OPEN_OPTIONS | options, metadata_errors="ignore")
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
        """Length in seconds: of the header where it is plausible, else counted from the packets."""
        stated, name = (self.container.duration or 0) / av.time_base, self.container.format.name
        # Matroska states the last time stamp: the length only where the first one is zero.
        believed = name not in UNTIMED_FORMATS and not ("matroska" in name and self.origin > STARTS_LATE)
        believed &= all(stream.frames != UNKNOWN_FRAMES for stream in streams)
        if believed and len(self.container.streams) > len(streams):  # the header's is that of the longest of all
            stated = max((self._stated_end(stream) for stream in streams), default=0.0)
        if believed and 0 < stated < LONGEST:
            return stated
        for _ in self.packets(*streams):
            pass
        if not 0 < self.reached < LONGEST:
            raise MediaError(self.path, "holds no timed picture or sound", "check that it plays, or convert it")
        self.reopen()
        return self.reached

    def _stated_end(self, stream: Stream) -> float:
        """Where the header says that a stream ends; infinity if it does not say."""
        if stream.duration is not None and stream.time_base is not None:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base) - self.origin
        try:
            hours, minutes, seconds = stream.metadata.get("DURATION", "").split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return math.inf

    @property
    def is_whole(self) -> bool:
        """Whether picture or sound reach the end that the header promises; a file cut short has neither."""
        if self._whole is None:
            with closing(Source(self.path)) as again:
                for _ in again.packets(*(stream for stream in (again.video, again.audio) if stream)):
                    pass
                self._whole = again.reached >= self.duration - END_TOLERANCE
        return self._whole

    def require(self, kind: Literal["video", "audio"]) -> Any:
        """The stream of a kind; MediaError if there is none."""
        stream = getattr(self, kind)
        if stream is None:
            raise MediaError(self.path, f"has no {kind} stream", f"leave it out or use only its {OTHER[kind]}")
        return stream

    def seconds(self, frame: VideoFrame | AudioFrame) -> float | None:
        """Where a frame lies on the timeline; None without a time stamp."""
        if frame.pts is None and frame.dts is not None:
            return float(frame.dts * (frame.time_base or 0)) - self.origin
        return None if frame.time is None else frame.time - self.origin

    def packets(self, *streams: Stream) -> Iterator[tuple[Packet, float | None, float]]:
        """Packets from here to the end of the file with begin (None without a stamp) and end in seconds.

        Each stream ends in an empty packet.
        """
        self.reached = 0.0
        ticks = {stream.index: (stream.time_base or 0).as_integer_ratio() for stream in streams}
        try:
            for packet in self.container.demux(*streams):
                if packet.stream_index not in ticks:
                    continue  # the empty last one of another stream
                numerator, denominator = ticks[packet.stream_index]  # fractions are slow, and packets are many
                stamp = packet.dts if packet.pts is None else packet.pts
                begin = None if stamp is None else stamp * numerator / denominator - self.origin
                end = (begin or 0.0) + (packet.duration or 0) * numerator / denominator
                self.reached = max(self.reached, end)
                yield packet, begin, end
        except av.FFmpegError as error:
            self.cut_off(f"after {self.reached:.1f} s ({error.strerror})", error)

    def decode(self, packet: Packet) -> list[Any] | None:
        """Frames of a packet; None if it is damaged, or padding, or refers to frames that were not decoded."""
        try:
            return packet.decode()
        except (EOFError, MemoryError):
            raise
        except av.FFmpegError:  # decoders raise many kinds of it
            return None

    def cut_off(self, where: str, cause: Exception | None = None) -> NoReturn:
        """Report a file that holds less than it promises."""
        raise MediaError(self.path, f"truncated or damaged {where}", "fetch it again or cut it anew") from cause
