"""Media files → prepared Parquet shards → batches: decode once, train many epochs.

A shard has one row a clip: raw `frames` (K · height · width · 3 uint8) and `waveforms` (K · samples int16) as bytes. A
clip that cannot be used keeps its row, with the reason in `error`.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from .atomic import atomic_file
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .media import MediaError, Sampling, read_clip

MEDIA_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv"),
    *(".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wav"),
}
CLIPS_PER_SHARD = 64
# Peak of a window under this (−80 dB) is silence: nothing to learn from, and never a match for a picture.
SILENCE_PEAK = 1e-4

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("path", pa.string()),
        ("track_id", pa.string()),
        ("duration", pa.float64()),
        ("frames", pa.binary()),
        ("frame_shape", pa.list_(pa.int32())),
        ("waveforms", pa.binary()),
        ("error", pa.string()),
    ]
)


class SourceError(ValueError):
    """A source of clips cannot be used as a whole; the message says what to do."""


@dataclass
class PrepareSettings:
    """Decode a folder of video files once, into Parquet shards to train on."""

    source: str = field(metadata={"help": "folder of video files"})
    output: str = field(metadata={"help": "folder for the shards"})
    num_frames: int = field(default=8, metadata={"help": "frames and windows of sound a clip"})
    shorter_side: int = field(default=256, metadata={"help": "pixels that frames are scaled down to"})
    num_workers: int = field(default=2, metadata={"help": "decoding threads"})


@dataclass(frozen=True)
class Prepared:
    """What [`prepare`] left: the folder, how many clips it holds, and (path, reason) of those it could not use."""

    folder: Path
    num_clips: int
    errors: list[tuple[str, str]]


def find_media(folder: str | Path) -> list[Path]:
    """Media files under `folder`, sorted; refuses a folder that is missing or has none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: give one that holds video files")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file())
    if not files:
        raise SourceError(f"{folder} holds no media file ({', '.join(sorted(MEDIA_SUFFIXES))}): put some there")
    return files


def prepare(
    files: Sequence[str | Path],
    output: str | Path,
    sampling: Sampling,
    *,
    num_workers: int = 2,
    restart: bool = False,
    progress: bool = True,
) -> Prepared:
    """Decode clips with picture and sound into Parquet shards under `output`; a second run goes on where one stopped.

    Args:
        files: one clip a file.
        output: folder for `part-00000.parquet` …; each shard is written whole or not at all.
        sampling: frames and windows to take.
        num_workers: decoding threads (the decoder works outside Python's lock).
        restart: where `output` was prepared from other files or settings, throw that away instead of refusing.
        progress: show a bar.

    Raises:
        SourceError: no file is usable, or `output` was prepared from other files or settings.
    """
    output = Path(output)
    shards = [list(files[start : start + CLIPS_PER_SHARD]) for start in range(0, len(files), CLIPS_PER_SHARD)]
    _claim(output, files, sampling, num_shards=len(shards), restart=restart)
    with tqdm(total=len(files), desc="preparing", unit="clip", disable=not progress) as bar, _pool(num_workers) as pool:
        for number, shard in enumerate(shards):
            path = _shard_path(output, number)
            if not path.exists():
                rows = list(pool.map(lambda file: prepare_clip(file, sampling), shard))
                with atomic_file(path) as partial:
                    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial, compression="none")
            bar.update(len(shard))
    columns = [pq.read_table(_shard_path(output, number), columns=["path", "error"]) for number in range(len(shards))]
    errors = [(row["path"], row["error"]) for row in pa.concat_tables(columns).to_pylist() if row["error"]]
    if len(errors) == len(files):
        raise SourceError(f"none of the {len(files)} files is usable; the first: {errors[0][1]}")
    return Prepared(output, len(files) - len(errors), errors)


def prepare_source(settings: PrepareSettings) -> None:
    """`cmmixer prepare`: shards of a folder, and a list of the files that could not be used."""
    sampling = Sampling(num_frames=settings.num_frames, shorter_side=settings.shorter_side)
    prepared = prepare(find_media(settings.source), settings.output, sampling, num_workers=settings.num_workers)
    for _, error in prepared.errors:
        print(f"left out: {error}")
    print(f"{prepared.num_clips} clips in {prepared.folder}, {len(prepared.errors)} files left out")


def prepare_clip(path: str | Path, sampling: Sampling) -> dict[str, Any]:
    """One row of a shard. Never raises for a bad file: its row carries the `error`."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {"clip_id": Path(path).stem, "path": str(path), "track_id": Path(path).stem}
    try:
        clip = read_clip(path, sampling)
        frames, waveforms = clip.frames, clip.waveforms
        if frames is None or waveforms is None or np.abs(waveforms).max() < SILENCE_PEAK:
            raise MediaError(str(path), "its sound is silent throughout", "leave it out of training for retrieval")
    except MediaError as error:
        return row | {"error": str(error)}
    samples = (waveforms.clip(-1, 1) * 32767).round().astype(np.int16)
    stored = {"frames": frames.tobytes(), "frame_shape": list(frames.shape), "waveforms": samples.tobytes()}
    return row | stored | {"duration": clip.duration}


def load_prepared(folder: str | Path) -> Dataset:
    """The usable clips of prepared shards, as a map-style dataset.

    Raises:
        SourceError: the folder was never prepared, or preparing it was not finished.
    """
    folder = Path(folder)
    claim = folder / "prepared.json"
    if not claim.exists():
        raise SourceError(f"{folder} holds no prepared clips: make them with `cmmixer prepare`")
    shards = [_shard_path(folder, number) for number in range(json.loads(claim.read_text())["shards"])]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise SourceError(f"{folder} is not finished, {missing[0]} is missing: run `cmmixer prepare` again to go on")
    table = pa.concat_tables(pq.read_table(shard, memory_map=True) for shard in shards)
    usable = [place for place, error in enumerate(table["error"].to_pylist()) if error is None]
    return Dataset(table).select(usable)  # a filter would copy all clips into memory


def collate_clips(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows → a batch: `frames`, a list of (K, h, w, 3) uint8; `waveforms`, (batch, K, samples) int16; and ids."""
    frames = [_from_bytes(row["frames"], np.uint8).view(row["frame_shape"]) for row in rows]
    waveforms = [_from_bytes(row["waveforms"], np.int16).view(row["frame_shape"][0], -1) for row in rows]
    return {
        "frames": frames,
        "waveforms": torch.stack(waveforms),
        "track_id": torch.tensor([_stable_number(row["track_id"]) for row in rows]),
        "clip_id": [row["clip_id"] for row in rows],
    }


class StackMaker:
    """A batch of [`collate_clips`] → `pixel_values` and `audio_values`, on the device where the batch lies.

    Sound is never augmented (§4.3), so `keep_spectrograms` makes each clip's only once: on a CPU they cost as much as a
    training step of a small model. It takes K · height · width · 4 bytes a clip.
    """

    def __init__(self, extractor: CMMixerFeatureExtractor, *, augment: bool = False, keep_spectrograms: bool = False):
        self.extractor = extractor
        self.augment = augment
        self.keep_spectrograms = keep_spectrograms
        self._kept: dict[str, Tensor] = {}

    def __call__(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """`pixel_values`, `audio_values` (batch, K, 3, height, width) float32."""
        pixel_values = self.extractor(videos=batch["frames"], augment=self.augment)["pixel_values"]
        return {"pixel_values": pixel_values, "audio_values": self._spectrograms(batch)}

    def _spectrograms(self, batch: dict[str, Any]) -> Tensor:
        if not self.keep_spectrograms:
            return self._extract(batch["waveforms"])
        missing = [place for place, clip in enumerate(batch["clip_id"]) if clip not in self._kept]
        if missing:
            made = self._extract(batch["waveforms"][missing])[:, :, 0]
            self._kept |= {batch["clip_id"][place]: stack.clone() for place, stack in zip(missing, made, strict=True)}
        kept = torch.stack([self._kept[clip] for clip in batch["clip_id"]])
        return kept[:, :, None].expand(-1, -1, 3, -1, -1)

    def _extract(self, waveforms: Tensor) -> Tensor:
        return self.extractor(audio=waveforms, sampling_rate=self.extractor.sampling_rate)["audio_values"]


def _claim(output: Path, files: Sequence[str | Path], sampling: Sampling, *, num_shards: int, restart: bool) -> None:
    """Write down what a folder is prepared from, or refuse a folder that was prepared from something else."""
    stats = [(str(path), Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([asdict(sampling), stats]).encode()).hexdigest()
    claim = output / "prepared.json"
    if claim.exists() and json.loads(claim.read_text())["digest"] != digest:
        if not restart:
            raise SourceError(f"{output} was prepared from other files or settings: choose another folder or delete it")
        shutil.rmtree(output)
    with atomic_file(claim) as partial:
        partial.write_text(json.dumps({"digest": digest, "shards": num_shards, "sampling": asdict(sampling)}, indent=2))


def _pool(num_workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, num_workers))


def _shard_path(folder: Path, number: int) -> Path:
    return folder / f"part-{number:05d}.parquet"


def _from_bytes(data: bytes, dtype: type) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=dtype))


def _stable_number(track_id: str) -> int:
    """The same 56-bit number for a track in every process."""
    return int.from_bytes(hashlib.blake2b(track_id.encode(), digest_size=7).digest(), "big")
