"""Metadata of a media file: its tags, and by one pass over its sound its loudness and tempo.

Loudness is the integrated one of ITU-R BS.1770, as FFmpeg's `ebur128` measures it. Tempo is librosa's, on the middle
[`TEMPO_SECONDS`] of a file; it is often wrong by a factor of two, and means nothing where its confidence is low.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from ..media.opening import MediaError, Source, open_source
from ..media.sound import Waves
from ..media.soundtrack import sound_frames

MEASURES = ("all", "tags", "none")
# Our names, and those that ID3, Vorbis comments and MP4 have for them.
TAGS = {
    "title": ("title",),
    "artist": ("artist", "album_artist"),
    "album": ("album",),
    "genre": ("genre",),
    "licence": ("license", "licence", "copyright"),
    "key": ("initialkey", "initial_key", "tkey", "key"),
}
LONGEST_TAG = 200  # characters; some files hold whole books
LOUDNESS_RATE, TEMPO_RATE = 48000, 22050  # Hz
TEMPO_SECONDS = 120.0
QUIETEST = -69.0  # LUFS; below its gate of -70 nothing is measured


def measure(path: str, modality: str = "audio", how: str = "all") -> dict[str, Any]:
    """Metadata of a file: its tags and `duration` in seconds; `loudness` in LUFS, `bpm` and `bpm_confidence`.

    Args:
        path: of the file.
        modality: `"audio"`, or `"video"`, of which `width` and `height` are noted and the sound is not measured.
        how: `"tags"` decodes nothing; `"all"` decodes the sound once; `"none"` does not open the file.

    Of a file that cannot be read to its end, the values measured before are returned.
    """
    metadata: dict[str, Any] = {}
    if how == "none":
        return metadata
    with suppress(MediaError), open_source(path) as source:
        metadata |= read_tags(source) | {"duration": round(source.duration, 2)}
        if modality == "video" and source.video:
            metadata |= {"width": source.video.codec_context.width, "height": source.video.codec_context.height}
        elif how == "all" and source.audio:
            metadata |= _listen(source)
    return metadata


def read_tags(source: Source) -> dict[str, str]:
    """The tags of a file, each on one line; some containers keep them with the sound."""
    stream = source.audio or source.video
    words = {name.lower(): text for name, text in (stream.metadata | source.container.metadata).items()}
    tags = {name: next((words[key] for key in keys if words.get(key)), "") for name, keys in TAGS.items()}
    return {name: one_line(text) for name, text in tags.items() if one_line(text)}


def one_line(text: str) -> str:
    """A text without line breaks and what cannot be printed, cut to [`LONGEST_TAG`].

    >>> one_line("Ode\\n to\\x00 Joy ")
    'Ode to Joy'
    """
    return " ".join("".join(sign for sign in text if sign.isprintable() or sign.isspace()).split())[:LONGEST_TAG]


def _listen(source: Source) -> dict[str, float]:
    """Loudness and tempo, by one pass over the sound."""
    meter, middle = LoudnessMeter(), source.duration / 2
    start, end = (max(0.0, middle + side * TEMPO_SECONDS / 2) for side in (-1, 1))
    mono, pieces = AudioResampler("fltp", "mono", TEMPO_RATE), list[Waves]()
    for frame in sound_frames(source):
        meter.add(frame)
        if start <= (source.seconds(frame) or 0.0) <= end:
            pieces += [part.to_ndarray()[0] for part in mono.resample(frame)]
    measured = {} if meter.loudness is None else {"loudness": round(meter.loudness, 1)}
    return measured | (tempo(np.concatenate(pieces)) if pieces else {})


class LoudnessMeter:
    """Integrated loudness of what was added, by FFmpeg's filter."""

    def __init__(self) -> None:
        self.loudness: float | None = None  # LUFS; none where nothing was loud enough to measure
        self._graph: av.filter.Graph | None = None
        self._samples = 0

    def add(self, frame: AudioFrame) -> None:
        """Take the next frame; all have the channels of the first."""
        if self._graph is None:
            layout = frame.layout.name
            self._resampler = AudioResampler("fltp", layout, LOUDNESS_RATE)
            self._graph = _loudness_graph(layout)
        for part in self._resampler.resample(frame):
            part.pts, part.time_base = self._samples, Fraction(1, LOUDNESS_RATE)
            self._samples += part.samples
            self._graph.push(part)
            self._read(self._graph)

    def _read(self, graph: av.filter.Graph) -> None:
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                value = float(graph.pull().metadata.get("lavfi.r128.I", math.nan))
                self.loudness = value if value > QUIETEST else self.loudness


def _loudness_graph(layout: str) -> av.filter.Graph:
    graph, tick = av.filter.Graph(), Fraction(1, LOUDNESS_RATE)
    source = graph.add_abuffer(sample_rate=LOUDNESS_RATE, format="fltp", layout=layout, time_base=tick)
    graph.link_nodes(source, graph.add("ebur128", "metadata=1:framelog=quiet"), graph.add("abuffersink")).configure()
    return graph


def loudness(waveform: Waves, rate: int) -> float | None:
    """Integrated loudness in LUFS of a mono or stereo waveform (C, N); `None` where it is silent or too short."""
    meter = LoudnessMeter()
    for frame in as_frames(waveform, rate):
        meter.add(frame)
    return meter.loudness


def as_frames(waveform: Waves, rate: int) -> Iterable[AudioFrame]:
    """A waveform (C, N) as frames of a tenth of a second."""
    layout, step = {1: "mono", 2: "stereo"}[len(waveform)], rate // 10
    for start in range(0, waveform.shape[1], step):
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(waveform[:, start : start + step]), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def tempo(waveform: Waves) -> dict[str, float]:
    """`bpm` of a waveform (N,) at [`TEMPO_RATE`], and how alike onsets are one beat apart, from 0 to 1.

    Empty where fewer than three beats are heard.
    """
    beats, onsets, frames_per_second = find_beats(waveform)
    if len(beats) < 3:
        return {}
    period = float(beats[-1] - beats[0]) / (len(beats) - 1)
    onsets = onsets - onsets.mean()
    lag = round(period * frames_per_second)
    alike = [float(onsets[:-near] @ onsets[near:]) for near in (lag - 1, lag, lag + 1)]
    confidence = max(0.0, max(alike) / float(onsets @ onsets))
    return {"bpm": round(60 / period, 1), "bpm_confidence": round(min(confidence, 1.0), 2)}


def find_beats(waveform: Waves) -> tuple[Waves, Waves, float]:
    """Beats (B,) in seconds of a waveform (N,) at [`TEMPO_RATE`], the strength of onsets (T,), and its T a second."""
    from librosa import beat, onset

    hop = 512
    onsets = onset.onset_strength(y=waveform, sr=TEMPO_RATE, hop_length=hop)
    _, beats = beat.beat_track(onset_envelope=onsets, sr=TEMPO_RATE, hop_length=hop, units="time")
    return np.asarray(beats, np.float32), onsets, TEMPO_RATE / hop
