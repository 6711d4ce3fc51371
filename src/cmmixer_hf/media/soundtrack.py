"""The whole sound of a file in stereo, and a file's picture with another sound."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from fractions import Fraction
from operator import itemgetter
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame

from .opening import MediaError, Path, Source, open_source
from .sound import Waves
from .writing import _encode_sound, mp4_file

# Pictures that an MP4 takes as they are, from containers that stamp every packet; others are encoded anew.
COPIED_CODECS = {"h264", "hevc", "av1", "vp9", "mpeg4"}
STAMPING_FORMATS = ("mp4", "matroska")
_TICK = Fraction(1, 90000)  # seconds, of pictures that are encoded anew


def sound_frames(source: Source) -> Iterator[AudioFrame]:
    """All of a file's sound, as its decoder gives it. Raises MediaError."""
    for packet, _, _ in source.packets(source.require("audio")):
        yield from source.decode(packet) or ()


def read_stereo(path: Path, start: float, seconds: float, rate: int) -> Waves:
    """Sound (2, N) in [-1, 1] of a file from `start` on, at `rate` Hz: `seconds` of it, or what there is.

    Raises MediaError, also where the file ends before `start`.
    """
    resampler, pieces = AudioResampler("fltp", "stereo", rate), list[Waves]()
    with open_source(path) as source:
        begin: float | None = None
        for frame in sound_frames(source):
            now = source.seconds(frame) or 0.0
            if now > start + seconds:
                break
            if now + frame.samples / frame.sample_rate > start:
                begin = now if begin is None else begin
                pieces += [_samples(part) for part in resampler.resample(frame)]
        if begin is None:
            reason = f"has no sound after {start:g} s"
            raise MediaError(source.path, reason, f"choose a start before {source.duration:.0f} s")
    sound = np.concatenate([*pieces, *map(_samples, resampler.resample(None))], axis=1)
    first = max(0, round((start - begin) * rate))
    return np.clip(sound[:, first : first + round(seconds * rate)], -1, 1)


def _samples(frame: AudioFrame) -> Waves:
    return frame.to_ndarray().astype(np.float32, copy=False)


def write_with_sound(path: Path, video: Path, waveform: Waves, *, sampling_rate: int) -> None:
    """Write the picture of `video` with the sound (2, N) as an MP4, which appears when it is complete.

    A picture that an MP4 can hold is copied, not encoded again. Raises MediaError.
    """
    with open_source(video) as source, mp4_file(path) as container:
        stream = source.require("video")
        stamped = any(form in source.container.format.name for form in STAMPING_FORMATS)
        copied = stamped and stream.codec_context.name in COPIED_CODECS
        picture = _copy(source, container) if copied else _encode_again(source, container)
        sound = container.add_stream("aac", rate=sampling_rate, layout="stereo")
        tracks = [picture, _encode_sound(sound, waveform, sampling_rate)]
        # In the order of time, so that picture and sound lie side by side in the file.
        for _, packets in heapq.merge(*tracks, key=itemgetter(0)):
            container.mux(packets)


def _copy(source: Source, container: OutputContainer) -> Iterator[tuple[float, list[Packet]]]:
    stream = container.add_stream_from_template(source.video)
    return _moved(source, stream)


def _moved(source: Source, stream: Any) -> Iterator[tuple[float, list[Packet]]]:
    """Packets of the picture, stamped from the timeline's beginning."""
    shift, last = round(source.origin / source.video.time_base), 0.0
    for packet, begin, _ in source.packets(source.video):
        if packet.dts is None:
            continue  # the empty last one
        packet.dts -= shift
        packet.pts = packet.dts if packet.pts is None else packet.pts - shift
        packet.stream = stream
        last = max(last, begin or 0.0)
        yield last, [packet]


def _encode_again(source: Source, container: OutputContainer) -> Iterator[tuple[float, list[Packet]]]:
    context = source.video.codec_context
    rate = source.video.average_rate or 25
    stream = container.add_stream("libx264", rate=rate, options={"preset": "veryfast"})
    stream.codec_context.time_base, stream.pix_fmt = _TICK, "yuv420p"
    if context.sample_aspect_ratio:
        stream.codec_context.sample_aspect_ratio = context.sample_aspect_ratio
    stream.width, stream.height = context.width // 2 * 2, context.height // 2 * 2
    return _encoded(source, stream)


def _encoded(source: Source, stream: Any) -> Iterator[tuple[float, list[Packet]]]:
    last = -1
    for packet, _, _ in source.packets(source.video):
        for frame in source.decode(packet) or ():
            now = source.seconds(frame)
            stamp = last + 1 if now is None else round(now / _TICK)
            if stamp > last:  # the encoder refuses what goes back in time
                picture = _even(frame, stream.width, stream.height)
                picture.pts, picture.time_base, last = stamp, _TICK, stamp
                yield stamp * float(_TICK), stream.encode(picture)
    yield math.inf, stream.encode(None)


def _even(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    picture = frame.reformat(width, height, "yuv420p")
    picture.pict_type = av.video.frame.PictureType.NONE
    return picture
