"""Retrieval scores (§4.4): similarity of clips, ranks, R@k and median rank, and the scores of chance."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..models.similarity import segment_similarity

# Similarities held at a time when a whole pool is ranked: 64 MB in float32.
BLOCK = 2**24


def ranks(similarity: Tensor, positives: Tensor | None = None) -> Tensor:
    """Rank of each query's best right candidate: 1 + wrong ones strictly better + half of the wrong ones that tie.

    A model that gives every candidate the same score therefore ranks in the middle, not first.

    Args:
        similarity: (N, M).
        positives: (N, M) bool, the right candidates, at least one a query; the diagonal where it is `None`.

    Raises:
        ValueError: a query has no right candidate, or a similarity is NaN, which comparisons would miss.

    >>> ranks(torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.5, 0.5], [0.3, 0.2, 0.1]])).tolist()
    [1.0, 2.0, 3.0]
    """
    if positives is None:
        positives = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    if not positives.any(1).all():
        raise ValueError(f"query {int((~positives.any(1)).nonzero()[0])} has no right candidate")
    if similarity.isnan().any():
        raise ValueError(f"{int(similarity.isnan().any(1).sum())} queries have similarities that are not numbers")
    best = similarity.masked_fill(~positives, float("-inf")).amax(1, keepdim=True)
    better = ((similarity > best) & ~positives).sum(1)
    ties = ((similarity == best) & ~positives).sum(1)
    return 1 + better + ties / 2


def rank_pool(queries: Tensor, candidates: Tensor, tracks: Tensor, *, block: int = BLOCK) -> Tensor:
    """[`ranks`] of every query among all candidates, (N,), with no more than `block` similarities in memory.

    Args:
        queries, candidates: (N, K, dim), L2-normalised, paired by position.
        tracks: (N,) integers; candidates that share the query's are right.
        block: similarities at a time; one query at least.

    >>> segments = torch.eye(6).view(3, 2, 6)
    >>> rank_pool(segments, segments.roll(1, 0), torch.arange(3), block=1).tolist()
    [2.5, 2.5, 2.5]
    """
    rows = max(1, block // len(candidates))
    return torch.cat(
        [
            ranks(segment_similarity(some, candidates), own[:, None] == tracks)
            for some, own in zip(queries.split(rows), tracks.split(rows), strict=True)
        ]
    )


def recall_at(place: Tensor, k: int) -> Tensor:
    """Share of the ranks (N,) that are k or better, in percent."""
    return 100 * (place <= k).float().mean()


def median_rank(place: Tensor) -> Tensor:
    """Median of the ranks (N,); the mean of the middle two of an even number."""
    return place.float().quantile(0.5)


RETRIEVAL_METRICS: dict[str, Callable[[Tensor], Tensor]] = {
    **{f"R@{k}": partial(recall_at, k=k) for k in (1, 5, 10)},
    "median_rank": median_rank,
}


def retrieval_metrics(similarity: Tensor, positives: Tensor | None = None) -> dict[str, float]:
    """R@1, R@5, R@10 in percent and the median rank.

    >>> retrieval_metrics(torch.eye(20))
    {'R@1': 100.0, 'R@5': 100.0, 'R@10': 100.0, 'median_rank': 1.0}
    """
    place = ranks(similarity, positives)
    return {name: metric(place).item() for name, metric in RETRIEVAL_METRICS.items()}


def chance_metrics(candidates: int, positives: Tensor | None = None) -> dict[str, float]:
    """The exact scores of guessing, with all orders of the candidates equally likely.

    With p right ones among M, the best of them comes after place r with probability Π_{i<r} (M − p − i) / (M − i).

    Args:
        candidates: M, the size of the pool.
        positives: (queries,) integers, p of each query; one for each where it is `None`.

    >>> chance_metrics(200)["R@1"], chance_metrics(200)["median_rank"]
    (0.5, 100.5)
    >>> chance_metrics(200, torch.tensor([2, 2]))["R@1"]
    1.0
    """
    positives = torch.ones(1) if positives is None else positives
    numbers, queries = positives.double().unique(return_counts=True)
    before = torch.arange(candidates, dtype=torch.double)
    later = ((candidates - numbers[:, None] - before).clamp(min=0) / (candidates - before)).cumprod(1)
    reached = 1 - queries.double() @ later / queries.sum()
    recall = {f"R@{k}": round(100 * reached[min(k, candidates) - 1].item(), 9) for k in (1, 5, 10)}
    middle = [int((reached < 0.5 + slack).sum()) + 1 for slack in (-1e-9, 1e-9)]  # of two middles, the mean
    return recall | {"median_rank": sum(middle) / 2}


def two_way_choice(queries: Tensor, right: Tensor, wrong: Tensor) -> Tensor:
    """Whether each query prefers its own candidate to one made to differ from it, (N,): 1 yes, 0 no, ½ a tie.

    Args:
        queries, right, wrong: L2-normalised segment embeddings, (N, K, dim), paired by position; chance is ½.

    >>> segments = torch.eye(4)[None]
    >>> two_way_choice(segments, segments, segments.flip(1)).item()  # the same segments in another order
    1.0
    """
    if not queries.shape == right.shape == wrong.shape:
        shapes = [tuple(part.shape) for part in (queries, right, wrong)]
        raise ValueError(f"queries, right and wrong candidates are paired by position, got shapes {shapes}")
    difference = (queries * right).sum(-1).mean(-1) - (queries * wrong).sum(-1).mean(-1)
    if difference.isnan().any():
        raise ValueError(f"{int(difference.isnan().sum())} queries have similarities that are not numbers")
    return (difference.sign() + 1) / 2


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
