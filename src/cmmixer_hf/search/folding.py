"""Candidates that are the same to a listener: sections of one file, and copies of it, fold under the best of them."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

# Embeddings of byte-identical files differ by less, whatever batch they were computed in and however they are kept.
COPY_TOLERANCE = 2e-3


def fold(places: Sequence[tuple[Any, ...]], scores: Tensor, segments: Tensor) -> list[list[int]]:
    """Groups of rows, best first, and in each the best row first.

    Rows of one path are of one group. So are rows of files of one size with the same place and the same embeddings: a
    copy under another name. A row without a path stands for itself.

    Args:
        places: `path`, `start`, `end` and `stamp` of each candidate.
        scores: of each, (rows,).
        segments: of each, (rows, K, size).
    """
    groups: dict[object, list[int]] = {}
    home: dict[object, object] = {}  # of a path: the key of its group
    seen: dict[tuple, list[int]] = {}  # rows of one size and place
    for row in scores.argsort(descending=True, stable=True).tolist():
        path, start, end, stamp = places[row]
        own = (row,) if path is None else path
        if own not in home:
            alike = seen.setdefault((stamp and stamp.split(":")[0], start, end), [])
            twin = _copy_of(row, alike, segments) if path is not None and stamp else None
            home[own] = own if twin is None else home[places[twin][0]]
            alike.append(row)
        groups.setdefault(home[own], []).append(row)
    return list(groups.values())


def _copy_of(row: int, others: list[int], segments: Tensor) -> int | None:
    """The first of the other rows with the same embeddings."""
    same = (other for other in others if (segments[other] - segments[row]).abs().max() < COPY_TOLERANCE)
    return next(same, None)
