"""Group candidates that are one recording: sections of one file, and copies of it, under the best of them."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .index_rows import Candidates

# Embeddings of byte-identical files differ by less, whatever batch they were computed in and however they are kept.
COPY_TOLERANCE = 2e-3
# Components in which files are compared first; so few tell nearly all of them apart.
MARKS = 4
MOST_COMPARISONS = 1 << 14  # from which on looking up where each file lies takes less time


def fold(candidates: Candidates, scores: Tensor, k: int) -> list[list[int]]:
    """The `k` best groups of rows, best first, and in each the best row first.

    Rows of one path are of one group. So are rows of files of one size with the same place and the same embeddings: a
    copy under another name. A row without a path stands for itself.

    Args:
        candidates: what there is.
        scores: of each, (rows,).
        k: how many groups; fewer where there are fewer.
    """
    order = np.argsort(-scores.numpy(), kind="stable").tolist()
    groups = _grouped(order, candidates.files.tolist())
    best = [rows[0] for rows in groups]
    if _may_hold_copies(candidates.segments[:, 0, :MARKS].numpy()[best], k):
        home = dict(zip(candidates.files[best].tolist(), _without_copies(candidates, best), strict=True))
        groups = _grouped(order, [home[file] for file in candidates.files.tolist()])
    return groups[:k]


def _grouped(order: Iterable[int], groups: Sequence[int]) -> list[list[int]]:
    """Rows, taken in an order, by the group of each."""
    grouped: dict[int, list[int]] = {}
    for row in order:
        grouped.setdefault(groups[row], []).append(row)
    return list(grouped.values())


def _may_hold_copies(marks: npt.NDArray[np.float32], k: int) -> bool:
    """Whether one of the `k` best files may have a copy, by a few components of each file's best row, (files, …)."""
    if len(marks) * k > MOST_COMPARISONS:
        return True
    one, other = np.nonzero(np.abs(marks[:, :1] - marks[:k, 0]) < COPY_TOLERANCE)
    near = np.abs(marks[one] - marks[other]).max(1) < COPY_TOLERANCE
    return bool(near.sum() > len(marks[:k]))  # more than each with itself


def _without_copies(candidates: Candidates, best: Sequence[int]) -> list[int]:
    """For each file, by its best row, the number of the first of which it is a copy: its own where it is none."""
    home: list[int] = []
    seen: dict[tuple, list[int]] = {}  # files of one size and place
    segments = candidates.segments[list(best)]
    for number, row in enumerate(best):
        path, start, end, stamp = candidates.place(row)
        alike = seen.setdefault((stamp and stamp.split(":")[0], start, end), [])
        twin = _copy_of(number, alike, segments) if path is not None and stamp else None
        home.append(number if twin is None else home[twin])
        alike.append(number)
    return home


def _copy_of(row: int, others: Sequence[int], segments: Tensor) -> int | None:
    """The first of the other rows with the same embeddings."""
    same = (other for other in others if (segments[other] - segments[row]).abs().max() < COPY_TOLERANCE)
    return next(same, None)
