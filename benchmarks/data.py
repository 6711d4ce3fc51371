"""What a clip costs before a model sees it: decoding, mels, prepared shards, beside what else people use for it.

    python benchmarks/data.py                                    # on clips that it writes itself
    python benchmarks/data.py --clips FOLDER                     # on the media files of a folder

Prints Markdown. A number is the CPU time of this process with one thread, the least of several rounds in which all
rows take turns clip by clip, so that other programs on the machine disturb the ratios little.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import librosa
import numpy as np
import torch
from threadpoolctl import threadpool_limits
from transformers import HfArgumentParser

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data import StackMaker, collate_clips, find_media, load_prepared, prepare
from cmmixer_hf.media import MediaError, Sampling, probe, read_clip, read_sections, segment_midpoints, write_clip

try:
    import cv2
except ImportError:
    cv2 = None


@dataclass
class DataSettings:
    """Measure decoding, mels and loading."""

    clips: str | None = field(default=None, metadata={"help": "folder of media files; by default some are written"})
    seconds: int = field(default=30, metadata={"help": "length of the clips that are written"})
    samples_per_second: float = field(
        default=743.0,
        metadata={"help": "clips that a GPU trains on; by default an estimate from FLOPs for Solo on an H200"},
    )
    repeated: int = field(default=4, metadata={"help": "augmentations of a clip that is decoded once"})
    rounds: int = field(default=3, metadata={"help": "rounds of which the quickest counts"})
    sound_seconds: int = field(default=3600, metadata={"help": "length of the sound that is read section by section"})


@dataclass(frozen=True)
class Row:
    """A line of the table: `work` has one piece a clip; `beside` is the line it is compared with."""

    what: str
    work: list[Callable[[], object]]
    beside: str | None = None


SAMPLING = Sampling(shorter_side=256)
OURS, OURS_PICTURE, OURS_SOUND = "`read_clip`: 8 frames, 8 windows of 2.6 s", "the frames alone", "the windows alone"
PYAV, PYAV_PICTURE, PYAV_SOUND = "PyAV, the whole file in order", "PyAV, the whole picture", "PyAV, the whole sound"
LIBROSA = "librosa, one window after the other"
# Format of a sound file → its encoder.
SOUNDS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "mp3": "libmp3lame",
    "ogg": "vorbis",
    "opus": "libopus",
    "m4a": "aac",
}
SECTION, HOP = 30.0, 15.0  # seconds, as `cmmixer index` cuts a track
LOADED, STACKED = "prepared shard → batch of bytes", "prepared shard → augmented stacks"


def decoding_rows(files: list[Path]) -> list[Row]:
    """Eight frames and windows of a file, and the whole of it."""
    rows = [
        Row(OURS, [partial(read_clip, path, SAMPLING) for path in files], PYAV),
        Row(PYAV, [partial(read_whole, path, ("video", "audio")) for path in files]),
        Row(OURS_PICTURE, [partial(read_clip, path, SAMPLING, audio=False) for path in files], PYAV_PICTURE),
        Row(PYAV_PICTURE, [partial(read_whole, path, ("video",)) for path in files]),
        Row(OURS_SOUND, [partial(read_clip, path, SAMPLING, video=False) for path in files], PYAV_SOUND),
        Row(PYAV_SOUND, [partial(read_whole, path, ("audio",)) for path in files]),
    ]
    opencv = [Row("OpenCV, seek and read 8 frames", [partial(read_with_opencv, path) for path in files], PYAV_PICTURE)]
    return rows[:4] + (opencv if cv2 else []) + rows[4:]


def section_rows(files: list[Path]) -> list[Row]:
    """All sections of each sound in one pass, as `cmmixer index` reads them, beside decoding it once."""
    rows = []
    for path in files:
        plain = Row(f"PyAV, the same {path.suffix[1:]} once", [partial(read_whole, path, ("audio",))])
        rows += [Row(f"{path.suffix[1:]}, all sections", [partial(read_all_sections, path)], plain.what), plain]
    return rows


def read_all_sections(path: Path) -> int:
    """How many sections there are; each must be usable."""
    sections = read_sections(path, SAMPLING, seconds=SECTION, hop=HOP, video=False)
    return sum(section.clip is not None for section in sections)


def write_sounds(folder: Path, seconds: int) -> list[Path]:
    """A stereo chord in noise in every format that this FFmpeg can write."""
    paths = [folder / f"sound.{suffix}" for suffix, codec in SOUNDS.items() if codec in av.codecs_available]
    for path in paths:
        write_sound(path, SOUNDS[path.suffix[1:]], seconds)
    return paths


def write_sound(path: Path, codec: str, seconds: int, *, rate: int = 48000) -> None:
    """Second after second, so that an hour fits into memory."""
    draw, instants = np.random.default_rng(0), np.arange(rate) / rate
    chord = sum(0.1 * np.sin(2 * np.pi * pitch * instants) for pitch in (220, 277, 330))
    with av.open(str(path), "w") as container:
        options = {"strict": "experimental"}  # FFmpeg's own Vorbis encoder
        stream = container.add_stream(codec, rate=rate, layout="stereo", options=options)
        for second in range(seconds):
            wave = chord + 0.05 * draw.standard_normal((2, rate))
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32), "fltp", "stereo")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), second * rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def sections_table(rows: list[Row], cost: dict[str, float]) -> list[str]:
    """Lines of Markdown: what all sections cost, in plain decodes."""
    lines = ["| | CPU s | CPU s to decode it once | ratio |", "|---|---|---|---|"]
    for row in rows:
        if row.beside:
            spent, once = cost[row.what] / 1000, cost[row.beside] / 1000
            lines.append(f"| {row.what} | {spent:.2f} | {once:.2f} | {spent / once:.2f} |")
    return lines


def mel_rows(files: list[Path], extractor: CMMixerFeatureExtractor) -> list[Row]:
    """Log-mels of a clip's eight windows."""
    windows = [read_clip(path, SAMPLING, video=False).waveforms for path in files]
    tensors = [torch.from_numpy(waves) for waves in windows]
    return [
        Row("`log_mel` of 8 windows", [partial(extractor.log_mel, waves) for waves in tensors], LIBROSA),
        Row("librosa, 8 windows at once", [partial(librosa_mel, waves, extractor) for waves in windows], LIBROSA),
        Row(LIBROSA, [partial(lambda waves: [librosa_mel(w, extractor) for w in waves], waves) for waves in windows]),
        Row("`spectrograms`: log-mels as images", [partial(extractor.spectrograms, waves[None]) for waves in tensors]),
    ]


def loading_rows(folder: Path, extractor: CMMixerFeatureExtractor) -> list[Row]:
    """Clips of prepared shards, one at a time."""
    clips, stacks = load_prepared(folder), StackMaker(extractor, augment=True)

    def load(place: int) -> dict:
        return collate_clips([clips[place]])

    places = range(len(clips))
    return [
        Row(LOADED, [partial(load, place) for place in places]),
        Row(STACKED, [partial(lambda place: stacks(load(place)), place) for place in places]),
    ]


def read_whole(path: Path, kinds: tuple[str, ...]) -> list[np.ndarray]:
    """Decode a file from beginning to end; convert its sound and the frames shown at the middles of eight parts."""
    resampler = av.AudioResampler("fltp", "mono", SAMPLING.sampling_rate)
    kept, shown = list[np.ndarray](), None
    with av.open(str(path)) as container:
        times = segment_midpoints(container.duration / av.time_base, SAMPLING.num_frames).tolist()
        streams = [container.streams.best(kind) for kind in kinds]
        for stream in streams:
            stream.codec_context.thread_count = 1
        for frame in container.decode(*streams):
            if isinstance(frame, av.AudioFrame):
                kept += [part.to_ndarray() for part in resampler.resample(frame)]
                continue
            while times and shown and frame.time > times[0]:
                kept.append(shrink(shown))
                times.pop(0)
            shown = frame
    return kept


def shrink(frame: av.VideoFrame) -> np.ndarray:
    """A frame as RGB, its shorter side that of our sampling."""
    scale = min(1.0, SAMPLING.shorter_side / min(frame.width, frame.height))
    size = round(frame.width * scale), round(frame.height * scale)
    return frame.reformat(*size, "rgb24", interpolation="AREA", threads=1).to_ndarray()


def read_with_opencv(path: Path) -> list[np.ndarray]:
    """Seek to the middles of eight parts; which frame comes then is OpenCV's choice."""
    capture, frames = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG), []
    duration = capture.get(cv2.CAP_PROP_FRAME_COUNT) / capture.get(cv2.CAP_PROP_FPS)
    for instant in segment_midpoints(duration, SAMPLING.num_frames):
        capture.set(cv2.CAP_PROP_POS_MSEC, instant * 1000)
        found, frame = capture.read()
        if found:
            scale = min(1.0, SAMPLING.shorter_side / min(frame.shape[:2]))
            small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            frames.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    capture.release()
    return frames


def librosa_mel(wave: np.ndarray, extractor: CMMixerFeatureExtractor) -> np.ndarray:
    """What `log_mel` computes."""
    power = librosa.feature.melspectrogram(
        y=wave,
        sr=extractor.sampling_rate,
        n_fft=extractor.n_fft,
        win_length=extractor.win_length,
        hop_length=extractor.hop_length,
        n_mels=extractor.num_mel_bins,
    )
    return np.log(np.maximum(power, extractor.mel_floor))


def measure(rows: list[Row], rounds: int) -> dict[str, float]:
    """CPU milliseconds a clip of each row."""
    best = {row.what: np.full(len(row.work), np.inf) for row in rows}
    for _ in range(rounds):
        for place in range(max(len(row.work) for row in rows)):
            for row in rows:
                if place < len(row.work):
                    started = time.process_time()
                    row.work[place]()
                    best[row.what][place] = min(best[row.what][place], time.process_time() - started)
    return {what: 1000 * float(times.mean()) for what, times in best.items()}


def cost_table(rows: list[Row], cost: dict[str, float]) -> list[str]:
    """Lines of Markdown: what each row costs."""
    lines = ["| | CPU ms a clip | clips/s a core | times as fast as |", "|---|---|---|---|"]
    for row in rows:
        ratio = f"{cost[row.beside] / cost[row.what]:.1f} × {row.beside}" if row.beside else ""
        lines.append(f"| {row.what} | {cost[row.what]:.2f} | {1000 / cost[row.what]:.0f} | {ratio} |")
    return lines


def feeding_table(cost: dict[str, float], settings: DataSettings) -> list[str]:
    """Lines of Markdown: cores that keep a GPU busy."""
    ways = {
        "files, decoded for every augmentation": cost[OURS],
        f"files, {settings.repeated} augmentations of a decoded clip": cost[OURS] / settings.repeated,
        "prepared shards, stacks made on the CPU": cost[STACKED],
        "prepared shards, stacks made on the GPU": cost[LOADED],
    }
    lines = [f"| from | CPU ms a sample | cores for {settings.samples_per_second:.0f} samples/s |", "|---|---|---|"]
    for way, spent in ways.items():
        lines.append(f"| {way} | {spent:.2f} | {spent * settings.samples_per_second / 1000:.1f} |")
    return lines


def usable(files: list[Path]) -> list[Path]:
    """The files with a picture and a sound that can be read; the others are named."""
    good = []
    for path in files:
        try:
            read_clip(path, SAMPLING)
        except MediaError as error:
            print(f"left out: {error}", file=sys.stderr)
        else:
            good.append(path)
    return good


def write_clips(folder: Path, seconds: int, *, count: int = 3) -> None:
    """Clips of 640 × 360 at 25 frames a second: a texture that moves under noise, and a rising tone in noise."""
    instants = np.arange(44100 * seconds) / 44100
    for number in range(count):
        draw = np.random.default_rng(number)
        texture = draw.integers(0, 200, (45, 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        frames = [
            np.roll(texture, 3 * t, 1) + draw.integers(0, 20, texture.shape, np.uint8) for t in range(25 * seconds)
        ]
        tone = 0.3 * np.sin(2 * np.pi * (200 + 100 * number + 50 * instants) * instants)
        wave = (tone + 0.05 * draw.standard_normal(len(instants))).astype(np.float32)
        write_clip(folder / f"{number}.mp4", np.stack(frames), wave, fps=25, sampling_rate=44100)


def report(settings: DataSettings) -> str:
    """All tables."""
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = "threads;1"
    torch.set_num_threads(1)
    if cv2:
        cv2.setNumThreads(1)
    extractor = CMMixerFeatureExtractor()
    with tempfile.TemporaryDirectory() as work, threadpool_limits(1):
        folder, shards = Path(work, "clips"), Path(work, "shards")
        folder.mkdir()
        if settings.clips is None:
            write_clips(folder, settings.seconds)
        files = usable(find_media(settings.clips or folder))
        prepare(files, shards, SAMPLING, num_workers=1, progress=False)
        rows = [*decoding_rows(files), *mel_rows(files, extractor), *loading_rows(shards, extractor)]
        sections = section_rows(write_sounds(Path(work), settings.sound_seconds))
        cost = measure(rows, settings.rounds) | measure(sections, settings.rounds)
        size = sum(path.stat().st_size for path in shards.glob("*.parquet")) / len(files)
        length = np.mean([probe(path).duration for path in files])
    about = f"{len(files)} clips of {length:.1f} s on average; a prepared clip takes {size / 1e6:.2f} MB."
    long = f"{settings.sound_seconds} s of sound, all sections of {SECTION:g} s every {HOP:g} s:"
    tables = [cost_table(rows, cost), feeding_table(cost, settings), [long], sections_table(sections, cost)]
    return "\n".join([about, *(line for table in tables for line in ("", *table))])


if __name__ == "__main__":
    print(report(HfArgumentParser(DataSettings).parse_args_into_dataclasses()[0]))
