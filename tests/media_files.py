"""Media files that say what they hold: a number in every frame, a chirp that sounds different at every instant."""

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from operator import itemgetter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

Options = dict[str, str]
Coded = Iterator[tuple[float, Any, Any]]  # seconds, stream, frame

PERIOD = 6.0  # seconds after which the chirp starts again from its lowest tone
PICTURE_STEP = 0.04  # seconds from frame to frame, where a recipe has no stamps


@dataclass(frozen=True)
class Recipe:
    """How a file is written; `video` and `audio` are FFmpeg's names of encoders, None for no such stream.

    Not every format can leave out the silence with which an encoder starts: `late` is by how many seconds picture and
    sound come later than written, `lag` by how many the sound comes later than the picture.
    """

    video: str | None = None
    audio: str | None = None
    picture: Options = field(default_factory=dict)  # for the encoders
    sound: Options = field(default_factory=lambda: {"aac_coder": "fast"})
    container: dict[str, Any] = field(default_factory=dict)  # for av.open
    seconds: float = 6.0
    fps: int = 25
    stamps: tuple[float, ...] = ()  # instants of the frames in seconds, where they are not every 1/fps
    size: tuple[int, int] = (96, 160)  # height, width
    pixels: str = "yuv420p"
    rate: int = 48000
    layout: str = "stereo"
    start: float = 0.0  # time stamp at which both begin
    delay: float = 0.0  # seconds by which the sound begins after the picture
    late: float = 0.0
    lag: float = 0.0

    @property
    def instants(self) -> np.ndarray:
        """Seconds at which each frame is shown, on the clock of the file's reader."""
        return np.array(self.stamps or np.arange(round(self.seconds * self.fps)) / self.fps) + self.late


def write_media(path: Path, recipe: Recipe) -> Path:
    """Write a file; skips the test where FFmpeg was built without the encoder."""
    for name in filter(None, (recipe.video, recipe.audio)):
        if not _can_encode(name):
            pytest.skip(f"this FFmpeg has no encoder {name}")
    with av.open(str(path), "w", **recipe.container) as container:
        tracks = [_picture(container, recipe)] if recipe.video else []
        tracks += [_sound(container, recipe)] if recipe.audio else []
        for _, stream, frame in heapq.merge(*tracks, key=itemgetter(0)):
            container.mux(stream.encode(frame))
    return path


def numbered_frame(number: int, size: tuple[int, int] = (96, 160)) -> np.ndarray:
    """A picture with 16 bits of a number as two rows of black or white blocks over a texture that moves."""
    height, width = size
    y, x = np.mgrid[:height, :width]
    picture = np.stack([(x * 2 + number * 3) % 200, (y * 2 + number) % 200, (x + y) % 200], axis=2).astype(np.uint8)
    for bit, rows, columns in _blocks(height, width):
        picture[rows, columns] = 255 * (number >> bit & 1)
    return picture


def numbers_of(pictures: np.ndarray) -> list[int]:
    """The number in each picture (K, height, width, 3) of any size."""
    blocks = list(_blocks(*pictures.shape[1:3]))
    return [
        sum(int(picture[rows, columns][2:-2, 2:-2].mean() > 128) << bit for bit, rows, columns in blocks)
        for picture in pictures
    ]


def chirp(seconds: np.ndarray) -> np.ndarray:
    """A tone that rises from 200 Hz to 3.2 kHz every six seconds, so that every instant sounds different."""
    seconds = seconds % PERIOD
    return 0.5 * np.sin(2 * np.pi * (200 * seconds + 0.5 * 500 * seconds**2))


def heard_at(window: np.ndarray, near: float, rate: int = 16000) -> float:
    """The instant of the chirp in the middle of a window, looked for within 0.15 s."""
    reach, size = round(0.15 * rate), len(window)
    instants = near + (np.arange(size + 2 * reach) - size / 2 - reach) / rate
    spectra = np.fft.rfft(chirp(instants)) * np.conj(np.fft.rfft(window, len(instants)))
    scores = np.fft.irfft(spectra, len(instants))[: 2 * reach + 1]  # the lags that do not wrap around
    return near + (int(np.argmax(scores)) - reach) / rate


def _blocks(height: int, width: int) -> Iterator[tuple[int, slice, slice]]:
    rows, columns = np.linspace(0, height * 0.4, 3).astype(int), np.linspace(0, width, 9).astype(int)
    for bit in range(16):
        row, column = divmod(bit, 8)
        yield bit, slice(rows[row], rows[row + 1]), slice(columns[column], columns[column + 1])


def _can_encode(name: str) -> bool:
    try:
        av.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        return False
    return True


def _picture(container: Any, recipe: Recipe) -> Coded:
    stream = container.add_stream(recipe.video, rate=recipe.fps, options=recipe.picture)
    (stream.height, stream.width), stream.pix_fmt = recipe.size, recipe.pixels
    stream.codec_context.thread_count = 1
    base = Fraction(1, 100 if recipe.stamps else recipe.fps)
    if recipe.stamps:
        stream.codec_context.time_base = base
    return _numbered_frames(stream, base, recipe)


def _numbered_frames(stream: Any, base: Fraction, recipe: Recipe) -> Coded:
    for number, instant in enumerate(recipe.instants - recipe.late + recipe.start):
        frame = av.VideoFrame.from_ndarray(numbered_frame(number, recipe.size), format="rgb24")
        frame.pts, frame.time_base = round(instant / base), base
        yield instant, stream, frame
    yield math.inf, stream, None


def _sound(container: Any, recipe: Recipe) -> Coded:
    stream = container.add_stream(recipe.audio, rate=recipe.rate, options=recipe.sound, layout=recipe.layout)
    return _chirps(stream, recipe)


def _chirps(stream: Any, recipe: Recipe) -> Coded:
    rate, step, size = recipe.rate, recipe.rate // 10, round(recipe.seconds * recipe.rate)
    for first in range(0, size, step):
        instants = np.arange(first, min(first + step, size)) / rate + recipe.delay
        wave = np.tile(chirp(instants), (stream.layout.nb_channels, 1)).astype(np.float32)
        piece = av.AudioFrame.from_ndarray(wave, "fltp", recipe.layout)
        piece.sample_rate, piece.time_base = rate, Fraction(1, rate)
        piece.pts = first + round((recipe.start + recipe.delay) * rate)
        yield piece.pts / rate, stream, piece
    yield math.inf, stream, None


LONG_GOP = {"g": "250", "bf": "3", "preset": "veryfast", "b_strategy": "0", "sc_threshold": "0"}
SHORT_GOP = {"g": "12", "bf": "2", "preset": "superfast"}
OPEN_GOP = {"x265-params": "keyint=24:min-keyint=24:open-gop=1:bframes=4:log-level=none:pools=1", "preset": "ultrafast"}
VP9 = {"deadline": "realtime", "cpu-used": "8", "g": "60"}
AV1 = {"preset": "12", "g": "60", "svtav1-params": "lp=1"}
EXPERIMENTAL = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
AAC, MP2, MP3 = 1024 / 48000, 481 / 48000, 1105 / 48000  # seconds of silence with which these encoders start
UNEVEN = tuple(np.cumsum([0, *np.random.default_rng(1).integers(1, 8, 149)]) / 100)

FILES = {
    "long.mp4": Recipe("libx264", "aac", LONG_GOP),
    "short.mp4": Recipe("libx264", "aac", SHORT_GOP),
    "hevc.mp4": Recipe("libx265", "aac", OPEN_GOP),
    "av1.mp4": Recipe("libsvtav1", "aac", AV1),
    "vp9.webm": Recipe("libvpx-vp9", "libopus", VP9),
    "av1.webm": Recipe("libsvtav1", "libopus", AV1),
    "vorbis.webm": Recipe("libvpx", "vorbis", VP9, sound=EXPERIMENTAL),
    "live.webm": Recipe("libvpx-vp9", "libopus", VP9, container={"options": {"live": "1"}}),
    "h264.mkv": Recipe("libx264", "libmp3lame", SHORT_GOP),
    "mpeg1.mpg": Recipe("mpeg1video", "mp2", {"bf": "2"}, container={"format": "mpeg"}, late=MP2),
    "mpeg2.vob": Recipe("mpeg2video", "mp2", {"bf": "2"}, container={"format": "vob"}, late=MP2),
    "long.ts": Recipe("libx264", "aac", LONG_GOP, container={"format": "mpegts"}, late=AAC),
    "short.ts": Recipe("libx264", "aac", SHORT_GOP, container={"format": "mpegts"}, late=AAC),
    "hevc.ts": Recipe("libx265", "aac", OPEN_GOP, container={"format": "mpegts"}, late=AAC),
    "fragmented.mp4": Recipe(
        "libx264", "aac", SHORT_GOP, container={"options": {"movflags": "frag_keyframe+empty_moov"}}, late=2 / 25
    ),
    "delayed.mp4": Recipe(
        "libx264", "aac", SHORT_GOP, container={"options": {"movflags": "frag_keyframe+empty_moov+delay_moov"}}
    ),
    "h264.avi": Recipe("libx264", "libmp3lame", LONG_GOP, lag=MP3),
    "h264.flv": Recipe("libx264", "aac", SHORT_GOP, late=AAC),
    "mjpeg.mov": Recipe("mjpeg", "pcm_s16le", pixels="yuvj420p"),
    # ten bits
    "ten.mp4": Recipe("libx264", "aac", SHORT_GOP, pixels="yuv420p10le"),
    "ten-hevc.mp4": Recipe("libx265", "aac", OPEN_GOP, pixels="yuv420p10le"),
    "ten-av1.mp4": Recipe("libsvtav1", "aac", AV1, pixels="yuv420p10le"),
    # odd sizes
    "odd.mp4": Recipe("libx264", "aac", SHORT_GOP, size=(97, 161), pixels="yuv444p"),
    "odd.webm": Recipe("libvpx-vp9", "libopus", VP9, size=(97, 161)),
    "odd.mpg": Recipe("mpeg1video", "mp2", size=(97, 161), container={"format": "mpeg"}, late=MP2),
    # clocks that do not start at zero; the last one starts anew after two seconds
    "start.mp4": Recipe("libx264", "aac", SHORT_GOP, start=5.0, late=AAC),
    "start.mkv": Recipe("libx264", "libmp3lame", SHORT_GOP, start=5.0),
    "start.webm": Recipe("libvpx-vp9", "libopus", VP9, start=5.0),
    "start.ts": Recipe("libx264", "aac", SHORT_GOP, container={"format": "mpegts"}, start=5.0, late=AAC),
    "start.mpg": Recipe("mpeg1video", "mp2", container={"format": "mpeg"}, start=5.0, late=MP2),
    "anew.ts": Recipe("libx264", "aac", SHORT_GOP, container={"format": "mpegts"}, start=95440.0, late=AAC),
    # variable frame rate
    "uneven.mp4": Recipe("libx264", "aac", LONG_GOP, stamps=UNEVEN),
    "uneven.webm": Recipe("libvpx-vp9", "libopus", VP9, stamps=UNEVEN),
    # other sound
    "low.mp4": Recipe("libx264", "aac", SHORT_GOP, rate=8000, layout="mono"),
    "high.mp4": Recipe("libx264", "aac", SHORT_GOP, rate=96000),
    "surround.mp4": Recipe("libx264", "aac", SHORT_GOP, layout="5.1"),
    "surround.webm": Recipe("libvpx-vp9", "libopus", VP9, layout="5.1"),
}

SOUNDS = {
    "a.wav": Recipe(audio="pcm_s16le", rate=44100),
    "8k.wav": Recipe(audio="pcm_u8", rate=8000, layout="mono"),
    "96k.wav": Recipe(audio="pcm_s24le", rate=96000),
    "surround.wav": Recipe(audio="pcm_f32le", rate=22050, layout="5.1"),
    "a.aiff": Recipe(audio="pcm_s16be", rate=11025, layout="mono"),
    "a.mp3": Recipe(audio="libmp3lame", rate=44100),
    "mono.mp3": Recipe(audio="libmp3lame", layout="mono"),
    "8k.mp3": Recipe(audio="libmp3lame", rate=8000, layout="mono"),
    "raw.mp3": Recipe(audio="libmp3lame", container={"options": {"write_xing": "0"}}, late=MP3),
    "a.flac": Recipe(audio="flac", layout="mono"),
    "96k.flac": Recipe(audio="flac", rate=96000, layout="5.1"),
    "a.m4a": Recipe(audio="aac", layout="5.1"),
    "96k.m4a": Recipe(audio="aac", rate=96000),
    "lossless.m4a": Recipe(audio="alac", rate=44100),
    "raw.aac": Recipe(audio="aac", late=AAC),
    "a.opus": Recipe(audio="libopus"),
    "a.ogg": Recipe(audio="vorbis", rate=44100, sound=EXPERIMENTAL),
    "a.mka": Recipe(audio="flac", rate=32000, container={"format": "matroska"}),
    "a.webm": Recipe(audio="libopus", layout="mono"),
}

PICTURES = {
    "silent.mp4": Recipe("libx264", picture=SHORT_GOP),
    "silent.webm": Recipe("libvpx-vp9", picture=VP9),
    "silent.ts": Recipe("libx265", picture=OPEN_GOP, container={"format": "mpegts"}),
    "slides.mp4": Recipe("libx264", picture=LONG_GOP, stamps=tuple(UNEVEN[i] * 18 for i in range(60))),
}
