"""Prepared Parquet shards → batches → stacks: decoded once, read in many epochs.

A shard has one row a clip: `frames`, a list of K pictures, and `waveforms`, K windows of int16 samples, as bytes;
either is null where the clip has none. A clip that cannot be used keeps its row, with the reason in `error`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import fsspec
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .labels import LabelNames
from .pictures import decode_pictures
from .prepared_clips import PreparedClips, Row, SourceError

# What a model calls its input → the column that it is made from.
COLUMNS = {"pixel_values": "frames", "audio_values": "waveforms"}

SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("path", pa.string()),
        ("audio_path", pa.string()),  # where the sound is not the video's own
        ("track_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("fold", pa.int32()),
        ("start", pa.float64()),  # seconds into the file
        ("audio_start", pa.float64()),  # the same for the sound
        ("duration", pa.float64()),
        ("num_segments", pa.int32()),
        ("frames", pa.list_(pa.binary())),
        ("frame_shape", pa.list_(pa.int32())),  # height, width
        ("frame_codec", pa.string()),  # "raw": height · width · 3 uint8; "jpeg"
        ("waveforms", pa.binary()),
        ("error", pa.string()),
    ]
)


class Clips(Protocol):
    """A map-style dataset of rows: [`PreparedClips`], a `datasets.Dataset` of the same columns, or a list of rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


def load_prepared(folder: str | Path) -> PreparedClips:
    """The usable clips of prepared shards, as a map-style dataset that reads a clip when it is asked for it.

    Args:
        folder: what `cmmixer prepare` wrote, or a URL of a copy of it (`hf://datasets/USER/NAME`, `s3://…`).

    Raises:
        SourceError: the folder was never prepared, preparing it was not finished, or its URL cannot be reached.
    """
    count, there = _read_claim(str(folder))
    names = [shard_path(Path(), number).name for number in range(count)]
    if missing := [name for name in names if name not in there]:
        raise SourceError(f"{folder} is not finished, {missing[0]} is missing: run `cmmixer prepare` again to go on")
    return PreparedClips([f"{folder}/{name}" for name in names])


def _read_claim(folder: str) -> tuple[int, set[str]]:
    """How many shards a folder or URL is to have, and the names of all files that it has."""
    try:
        filesystem, root = fsspec.core.url_to_fs(folder)
        claim = json.loads(filesystem.cat_file(f"{root}/prepared.json"))
        return claim["shards"], {Path(path).name for path in filesystem.ls(root, detail=False)}
    except (FileNotFoundError, NotADirectoryError) as error:
        private = "; a private one needs `hf auth login`, or what its store asks for" if "://" in folder else ""
        raise SourceError(f"{folder} holds no prepared clips: make them with `cmmixer prepare`{private}") from error
    except Exception as error:
        if "://" not in folder:
            raise
        reason = " ".join(str(error).split())  # each kind of store has errors of its own, some without a common base
        advice = "check the network, or download it once (`hf download`) and give the folder"
        raise SourceError(f"{folder} cannot be reached ({reason}): {advice}") from error


def unpack_frames(row: Row) -> Tensor:
    """A row's pictures, (K, height, width, 3) uint8."""
    if row["frame_codec"] == "jpeg":
        return torch.from_numpy(decode_pictures(row["frames"]))
    frames = np.empty((row["num_segments"], *row["frame_shape"], 3), np.uint8)
    for frame, picture in zip(frames, row["frames"], strict=True):
        frame.reshape(-1)[:] = np.frombuffer(picture, np.uint8)
    return torch.from_numpy(frames)


def unpack_waveforms(row: Row) -> Tensor:
    """A row's windows of sound, (K, samples) int16."""
    return torch.from_numpy(np.frombuffer(row["waveforms"], np.int16).reshape(row["num_segments"], -1).copy())


def collate_clips(
    rows: Sequence[Row], *, columns: Sequence[str] | None = None, labels: LabelNames | None = None
) -> dict[str, Any]:
    """Rows → a batch: `frames`, a list of (K, h, w, 3) uint8; `waveforms`, (batch, K, samples) int16; ids; `labels`.

    Args:
        rows: one a clip.
        columns: which of `frames` and `waveforms` the batch must have; `None` takes those that all rows have.
        labels: where the batch should have `labels`, [`LabelNames.encode`]d.

    Raises:
        SourceError: a clip has no pictures or no sound where they are asked for, or labels that do not fit.
    """
    if columns is None:
        columns = [column for column in COLUMNS.values() if all(row[column] is not None for row in rows)]
    batch: dict[str, Any] = {"clip_id": [row["clip_id"] for row in rows]}
    for column in columns:
        if missing := [row["clip_id"] for row in rows if row[column] is None]:
            raise SourceError(f"clip {missing[0]} has no {column}, which this model needs: leave it out of the clips")
    if "frames" in columns:
        batch["frames"] = [unpack_frames(row) for row in rows]
    if "waveforms" in columns:
        batch["waveforms"] = torch.stack([unpack_waveforms(row) for row in rows])
    batch["track_id"] = torch.tensor([_stable_number(row["track_id"]) for row in rows])
    if labels is not None:
        batch["labels"] = torch.stack([labels.encode(row) for row in rows])
    return batch


class StackMaker:
    """A batch of [`collate_clips`] → `pixel_values` and `audio_values`, on the device where the batch lies.

    Args:
        extractor: what makes them.
        augment: crop and flip the frames at random (§4.3); sound is never augmented.
        keep_spectrograms: make each clip's only once: on a CPU they cost as much as a training step of a small model.
            It takes K · height · width · 4 bytes a clip.
        kept: where they are kept, by clip; runs on the same clips with the same extractor may share one.
        repeats: samples that each clip becomes, next to one another, each with its own crop and flip (§4.3, repeated
            sampling).
    """

    def __init__(
        self,
        extractor: CMMixerFeatureExtractor,
        *,
        augment: bool = False,
        keep_spectrograms: bool = False,
        kept: dict[str, Tensor] | None = None,
        repeats: int = 1,
    ):
        self.extractor = extractor
        self.augment = augment
        self.keep_spectrograms = keep_spectrograms
        self.repeats = repeats
        self._kept = {} if kept is None else kept

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`pixel_values`, `audio_values` (clips · repeats, K, 3, height, width) float32, of what the batch has."""
        stacks: dict[str, Tensor] = {}
        if "frames" in batch:
            clips = [clip for clip in batch["frames"] for _ in range(self.repeats)]
            stacks["pixel_values"] = self.extractor(videos=clips, augment=self.augment)["pixel_values"]
        if "waveforms" in batch:
            spectrograms = self._spectrograms(batch).repeat_interleave(self.repeats, 0)
            stacks["audio_values"] = self.extractor.expand(spectrograms)
        return stacks

    def _spectrograms(self, batch: Mapping[str, Any]) -> Tensor:
        """What is worth keeping of the stacks, as [`CMMixerFeatureExtractor.compact`] says."""
        if not self.keep_spectrograms:
            return self._extract(batch["waveforms"])
        missing = [place for place, clip in enumerate(batch["clip_id"]) if clip not in self._kept]
        if missing:
            made = self._extract(batch["waveforms"][missing])
            self._kept |= {batch["clip_id"][place]: stack.clone() for place, stack in zip(missing, made, strict=True)}
        return torch.stack([self._kept[clip] for clip in batch["clip_id"]])

    def _extract(self, waveforms: Tensor) -> Tensor:
        made = self.extractor(audio=waveforms, sampling_rate=self.extractor.sampling_rate)
        return self.extractor.compact(made["audio_values"])


def shard_path(folder: Path, number: int) -> Path:
    """`part-00000.parquet` and so on."""
    return folder / f"part-{number:05d}.parquet"


def _stable_number(track_id: str) -> int:
    """The same 56-bit number for a track in every process."""
    return int.from_bytes(hashlib.blake2b(track_id.encode(), digest_size=7).digest(), "big")
