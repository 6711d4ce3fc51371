"""Classification scores (§4.7): top-k accuracy, mean average precision, and what chance would score."""

import torch
from torch import Tensor

from .metrics import ranks


def top_k_hits(scores: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """Whether each sample's right class is among the k best, with the ties of [`ranks`], (N,) of 0. and 1.

    Args:
        scores: (N, classes), higher is likelier.
        labels: (N, classes) bool, one or more right classes a sample; the best of them counts.
        k: places that count.

    >>> top_k_hits(torch.tensor([[0.1, 0.7, 0.2]]), torch.tensor([[False, False, True]]), k=2).tolist()
    [1.0]
    """
    _check(scores, labels)
    return (ranks(scores, labels) <= k).double()


def average_precisions(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision of each class, (classes,) in [0, 1]; equals scikit-learn's, NaN where no sample has the class.

    AP = Σ over right samples of the precision at their place, 1/positives each; samples that tie share the place of the
    last of them.

    Args:
        scores: (N, classes), higher is likelier.
        labels: (N, classes) bool, any number of right classes a sample.

    >>> average_precisions(torch.tensor([[0.9], [0.8], [0.7]]), torch.tensor([[True], [False], [True]])).item()
    0.8333333333333333
    """
    _check(scores, labels)
    falling, order = (-scores.double().T).contiguous().sort(dim=1)
    right = labels.T.gather(1, order).double()
    last = torch.searchsorted(falling, falling, right=True)  # 1 + the last place that has this score
    precision = right.cumsum(1).gather(1, last - 1) / last
    return (precision * right).sum(1) / right.sum(1)


def mean_average_precision(scores: Tensor, labels: Tensor) -> float:
    """mAP in percent over the classes that some sample has, as for AudioSet; arguments as in [`average_precisions`]."""
    precisions = average_precisions(scores, labels)
    if precisions.isnan().all():
        raise ValueError("no sample has any label, so that there is nothing to find")
    return 100 * precisions.nanmean().item()


def chance_accuracy(labels: Tensor, k: int = 1) -> float:
    """Top-k accuracy of guessing among all classes, in percent, labels (N, classes) with one right class a sample.

    >>> chance_accuracy(torch.eye(10).bool(), k=5)
    50.0
    """
    return 100 * min(1.0, k / labels.shape[1])


def chance_average_precision(labels: Tensor) -> float:
    """mAP of a random order of the samples, exactly, in percent; labels (N, classes) bool.

    E[AP] of p right samples among n is (H_n + (p − 1)/(n − 1) · (n − H_n)) / n with the harmonic number H_n.

    >>> chance_average_precision(torch.tensor([[True], [False]]))
    75.0
    """
    count = len(labels)
    harmonic = (1 / torch.arange(1, count + 1, dtype=torch.double)).sum()
    positives = labels.sum(0).double()
    positives = positives[positives > 0]
    share = (positives - 1) / max(1, count - 1)
    return 100 * ((harmonic + share * (count - harmonic)) / count).mean().item()


def average_groups(values: Tensor, groups: Tensor) -> Tensor:
    """Means of the rows of each group, (N, …) → (groups, …), as K400 averages a video's temporal clips.

    Args:
        values: (N, classes) probabilities of views: temporal clips of one video, or CAV-MAE's single frames.
        groups: (N,) integers 0 … groups − 1, the sample that each view shows.

    >>> average_groups(torch.tensor([[0.25], [0.75], [1.0]]), torch.tensor([0, 0, 1])).tolist()
    [[0.5], [1.0]]
    """
    sums = torch.zeros(int(groups.max()) + 1, *values.shape[1:], dtype=torch.double)
    sums.index_add_(0, groups, values.double())
    return (sums / groups.bincount()[:, None]).to(values.dtype)


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.shape != labels.shape or scores.ndim != 2:
        raise ValueError(
            f"expected scores and labels of one shape (samples, classes), got {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if scores.isnan().any():
        raise ValueError(f"{int(scores.isnan().any(1).sum())} samples have scores that are not numbers")
