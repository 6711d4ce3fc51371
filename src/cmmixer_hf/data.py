"""Prepared Parquet shards → batches → stacks: decoded once, read in many epochs.

A shard has one row a clip: `frames`, a list of K pictures, and `waveforms`, K windows of int16 samples, as bytes;
either is null where the clip has none. A clip that cannot be used keeps its row, with the reason in `error`.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from torch import Tensor

from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .pictures import decode_pictures

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


class SourceError(ValueError):
    """A source of clips cannot be used as a whole; the message says what to do."""


def load_prepared(folder: str | Path) -> Dataset:
    """The usable clips of prepared shards, as a map-style dataset.

    Raises:
        SourceError: the folder was never prepared, or preparing it was not finished.
    """
    folder = Path(folder)
    claim = folder / "prepared.json"
    if not claim.exists():
        raise SourceError(f"{folder} holds no prepared clips: make them with `cmmixer prepare`")
    shards = [shard_path(folder, number) for number in range(json.loads(claim.read_text())["shards"])]
    missing = [shard.name for shard in shards if not shard.exists()]
    if missing:
        raise SourceError(f"{folder} is not finished, {missing[0]} is missing: run `cmmixer prepare` again to go on")
    table = pa.concat_tables(pq.read_table(shard, memory_map=True) for shard in shards)
    usable = [place for place, error in enumerate(table["error"].to_pylist()) if error is None]
    return Dataset(table).select(usable)  # a filter would copy all clips into memory


def unpack_frames(row: dict[str, Any]) -> Tensor:
    """A row's pictures, (K, height, width, 3) uint8."""
    if row["frame_codec"] == "jpeg":
        return torch.from_numpy(decode_pictures(row["frames"]))
    pictures = [_from_bytes(picture, np.uint8) for picture in row["frames"]]
    return torch.stack(pictures).view(row["num_segments"], *row["frame_shape"], 3)


def unpack_waveforms(row: dict[str, Any]) -> Tensor:
    """A row's windows of sound, (K, samples) int16."""
    return _from_bytes(row["waveforms"], np.int16).view(row["num_segments"], -1)


def collate_clips(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows → a batch: `frames`, a list of (K, h, w, 3) uint8; `waveforms`, (batch, K, samples) int16; and ids."""
    return {
        "frames": [unpack_frames(row) for row in rows],
        "waveforms": torch.stack([unpack_waveforms(row) for row in rows]),
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


def shard_path(folder: Path, number: int) -> Path:
    """`part-00000.parquet` and so on."""
    return folder / f"part-{number:05d}.parquet"


def _from_bytes(data: bytes, dtype: type) -> Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), dtype=dtype))


def _stable_number(track_id: str) -> int:
    """The same 56-bit number for a track in every process."""
    return int.from_bytes(hashlib.blake2b(track_id.encode(), digest_size=7).digest(), "big")
