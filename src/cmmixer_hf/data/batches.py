"""Prepared Parquet shards → batches → stacks: decoded once, read in many epochs.

A shard has one row a clip: `frames`, a list of K pictures, and `waveforms`, K windows of int16 samples, as bytes;
either is null where the clip has none. A clip that cannot be used keeps its row, with the reason in `error`.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedConfig

from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..media.jpeg import decode_pictures
from .prepared_clips import Row, SourceError


@dataclass(frozen=True)
class LabelNames:
    """The names of the classes of a model, in the order of its scores.

    Args:
        names: class i is `names[i]`.
        several: whether a clip may have any number of labels, which become (classes,) floats of 0. and 1.; otherwise it
            has exactly one, which becomes its number.

    >>> LabelNames(("crow", "rain", "wind"), several=True).encode({"clip_id": "a", "labels": ["wind", "rain"]})
    tensor([0., 1., 1.])
    """

    names: tuple[str, ...]
    several: bool = False

    @classmethod
    def of(cls, config: PreTrainedConfig) -> "LabelNames":
        """Those of a model's configuration, its `id2label` and `problem_type`.

        Raises:
            SourceError: the numbers of the classes do not run from 0 on.
        """
        named = {int(number): name for number, name in (config.id2label or {}).items()}
        if sorted(named) != list(range(len(named))):
            shown = ", ".join(map(str, sorted(named)[:5]))
            raise SourceError(f"`id2label` numbers the classes {shown} …: number them from 0 on, as scores are")
        names = tuple(named[number] for number in range(len(named)))
        return cls(names, several=config.problem_type == "multi_label_classification")

    def encode(self, row: Row) -> Tensor:
        """A row's labels as a loss takes them: () int64, or (classes,) float32 where there may be several.

        Raises:
            SourceError: a label that no class has, or not exactly one label.
        """
        truths = self.truths(row)
        return truths.float() if self.several else truths.int().argmax()

    def truths(self, row: Row) -> Tensor:
        """(classes,) bool, whether a row has the label of each class. Raises SourceError as [`encode`] does."""
        labels = row["labels"] or []
        if unknown := set(labels) - set(self.names):
            raise SourceError(
                f"clip {row['clip_id']} has the label {min(unknown)!r}, the model knows {', '.join(self.names[:5])} "
                f"… ({len(self.names)} in all): give its configuration the `id2label` of these clips (`find_labels`)"
            )
        if not self.several and not labels:
            raise SourceError(f"clip {row['clip_id']} has no label, the model expects one: label it, or leave it out")
        if not self.several and len(labels) > 1:
            raise SourceError(
                f"clip {row['clip_id']} has {len(labels)} labels, the model expects one: set "
                '`problem_type="multi_label_classification"` in its configuration, or leave the clip out'
            )
        return torch.tensor([name in labels for name in self.names])


def find_labels(labels: Iterable[Sequence[str] | None]) -> dict[int, str]:
    """An `id2label` for a model's configuration, from a column `labels`: all names in alphabetical order.

    Raises:
        SourceError: no clip has any.

    >>> find_labels([["rain"], ["crow", "wind"], None])
    {0: 'crow', 1: 'rain', 2: 'wind'}
    """
    names_in_use = {name for names in labels for name in names or []}
    if not names_in_use:
        raise SourceError(
            "no clip has a label: prepare them again from a table with a column `label`, or from folders named after "
            "the classes with `--format classes`"
        )
    return dict(enumerate(sorted(names_in_use)))


# What a model calls its input → the column that it is made from.
COLUMNS = {"pixel_values": "frames", "audio_values": "waveforms"}


class Clips(Protocol):
    """A map-style dataset of rows: [`PreparedClips`], a `datasets.Dataset` of the same columns, or a list of rows."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: int, /) -> Any: ...


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

    A clip without a track has one of its own. Rows of [`KeptClips`] give `spectrograms` in place of waveforms.

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
    if "waveforms" in columns and all("spectrograms" in row for row in rows):
        batch["spectrograms"] = torch.stack([row["spectrograms"] for row in rows])
    elif "waveforms" in columns:
        batch["waveforms"] = torch.stack([unpack_waveforms(row) for row in rows])
    batch["track_id"] = torch.tensor([_stable_number(row["track_id"] or row["clip_id"]) for row in rows])
    if labels is not None:
        batch["labels"] = torch.stack([labels.encode(row) for row in rows])
    return batch


class StackMaker:
    """A batch of [`collate_clips`] → `pixel_values` and `audio_values`, on the device where the batch lies.

    Args:
        extractor: what makes them.
        augment: crop and flip the frames at random (§4.3); sound is never augmented.
        repeats: samples that each clip becomes, next to one another, each with its own crop and flip (§4.3, repeated
            sampling).
    """

    def __init__(
        self,
        extractor: CMMixerFeatureExtractor,
        *,
        augment: bool = False,
        repeats: int = 1,
    ):
        self.extractor = extractor
        self.augment = augment
        self.repeats = repeats

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """`pixel_values`, `audio_values` (clips · repeats, K, 3, height, width) float32, of what the batch has.

        Raises:
            SourceError: the clips were prepared with other windows of sound than the extractor takes.
        """
        stacks: dict[str, Tensor] = {}
        if "frames" in batch:
            clips = [clip for clip in batch["frames"] for _ in range(self.repeats)]
            stacks["pixel_values"] = self.extractor(videos=clips, augment=self.augment)["pixel_values"]
        made = batch.get("spectrograms")
        if "waveforms" in batch:
            made = spectrograms(self.extractor, batch["waveforms"])
        if made is not None:
            stacks["audio_values"] = self.extractor.expand(made.repeat_interleave(self.repeats, 0))
        return stacks


def spectrograms(extractor: CMMixerFeatureExtractor, waveforms: Tensor) -> Tensor:
    """What is worth keeping of the stacks of waveforms, (batch, K, samples), as the extractor's `compact` has it.

    Raises:
        SourceError: the clips were prepared with other windows of sound than the extractor takes.
    """
    got, takes, rate = waveforms.shape[-1], extractor.window_samples, extractor.sampling_rate
    if got != takes:
        raise SourceError(
            f"the clips' windows have {got} samples ({got / rate:g} s at {rate} Hz), the model's extractor takes "
            f"{takes} ({takes / rate:g} s): prepare the clips with its `--window_seconds` and `--sampling_rate`, "
            "or give the extractor theirs"
        )
    return extractor.compact(extractor(audio=waveforms, sampling_rate=rate)["audio_values"])


class KeptClips:
    """Clips that are read once: their rows stay in memory, with spectrograms in place of the sound.

    Reading a clip and making its spectrograms take a CPU as long as a training step of a small model on it. What is
    kept of a clip is its pictures and K · height · width · 4 bytes. Each process keeps what it has read: several runs
    share them where none has workers.

    Args:
        clips: any others.
        extractor: makes the spectrograms; that of the model which trains on them.
    """

    def __init__(self, clips: Clips, extractor: CMMixerFeatureExtractor):
        self.clips, self.extractor = clips, extractor
        self._rows: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.clips)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_rows": {}}  # a worker reads its own

    @property
    def shard_sizes(self) -> Sequence[int]:
        """Clips that lie side by side, as those which are kept have it."""
        return self.clips.shard_sizes if hasattr(self.clips, "shard_sizes") else [len(self)]

    def __getitem__(self, place: int, /) -> dict[str, Any]:
        return self.__getitems__([place])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows; those that were never asked for are read together."""
        if missing := sorted({place for place in places if place not in self._rows}):
            together = getattr(self.clips, "__getitems__", lambda places: [self.clips[place] for place in places])
            self._rows |= zip(missing, self._keep([dict(row) for row in together(missing)]), strict=True)
        return [self._rows[place] for place in places]

    def _keep(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        with_sound = [row for row in rows if row.get("waveforms") is not None]
        if with_sound:
            made = spectrograms(self.extractor, torch.stack([unpack_waveforms(row) for row in with_sound]))
            for row, own in zip(with_sound, made, strict=True):
                row |= {"waveforms": b"", "spectrograms": own.clone()}
        return rows


def _stable_number(track_id: str) -> int:
    """The same 56-bit number for a track in every process."""
    return int.from_bytes(hashlib.blake2b(track_id.encode(), digest_size=7).digest(), "big")
