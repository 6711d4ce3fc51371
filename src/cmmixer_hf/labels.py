"""Names of classes ↔ what a classifier is trained on (§4.7)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedConfig

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
        """Those of a model's configuration, its `id2label` and `problem_type`."""
        names = tuple(name for _, name in sorted((config.id2label or {}).items()))
        return cls(names, several=config.problem_type == "multi_label_classification")

    def encode(self, row: Row) -> Tensor:
        """A row's labels as numbers: () int64, or (classes,) float32 where there may be several.

        Raises:
            SourceError: a label that no class has, or not exactly one label.
        """
        labels = row["labels"] or []
        if unknown := set(labels) - set(self.names):
            raise SourceError(
                f"clip {row['clip_id']} has the label {min(unknown)!r}, the model knows {', '.join(self.names[:5])} "
                f"… ({len(self.names)} in all): give its configuration the `id2label` of these clips (`find_labels`)"
            )
        if self.several:
            return torch.tensor([float(name in labels) for name in self.names])
        if len(labels) != 1:
            raise SourceError(
                f"clip {row['clip_id']} has {len(labels)} labels, the model expects one: set "
                '`problem_type="multi_label_classification"` in its configuration, or leave the clip out'
            )
        return torch.tensor(self.names.index(labels[0]))


def find_labels(labels: Iterable[Sequence[str] | None]) -> dict[int, str]:
    """An `id2label` for a model's configuration, from a column `labels`: all names in alphabetical order.

    >>> find_labels([["rain"], ["crow", "wind"], None])
    {0: 'crow', 1: 'rain', 2: 'wind'}
    """
    return dict(enumerate(sorted({name for names in labels for name in names or []})))
