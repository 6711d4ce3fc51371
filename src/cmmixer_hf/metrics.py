"""Retrieval scores (§4.4): similarity of clips, ranks, R@k and median rank."""

import torch
from torch import Tensor


def segment_similarity(queries: Tensor, candidates: Tensor) -> Tensor:
    """Mean over l of cos(P_l, P′_l), which is what Eq. 2 trains: (N, K, dim), (M, K, dim) → (N, M) in [−1, 1].

    Both are L2-normalised segment embeddings of clips with the same number of segments.
    """
    if queries.shape[1:] != candidates.shape[1:]:
        raise ValueError(f"clips differ in segments or size: {tuple(queries.shape[1:])}, {tuple(candidates.shape[1:])}")
    return queries.flatten(1) @ candidates.flatten(1).T / queries.shape[1]


def ranks(similarity: Tensor, positives: Tensor | None = None) -> Tensor:
    """Rank of each query's best right candidate: 1 + wrong ones strictly better + half of the wrong ones that tie.

    A model that gives every candidate the same score therefore ranks in the middle, not first.

    Args:
        similarity: (N, M).
        positives: (N, M) bool, the right candidates, at least one a query; the diagonal where it is `None`.

    >>> ranks(torch.tensor([[0.9, 0.1, 0.2], [0.5, 0.5, 0.5], [0.3, 0.2, 0.1]])).tolist()
    [1.0, 2.0, 3.0]
    """
    if positives is None:
        positives = torch.eye(*similarity.shape, dtype=torch.bool, device=similarity.device)
    if not positives.any(1).all():
        raise ValueError(f"query {int((~positives.any(1)).nonzero()[0])} has no right candidate")
    best = similarity.masked_fill(~positives, float("-inf")).amax(1, keepdim=True)
    better = ((similarity > best) & ~positives).sum(1)
    ties = ((similarity == best) & ~positives).sum(1)
    return 1 + better + ties / 2


def retrieval_metrics(similarity: Tensor, positives: Tensor | None = None) -> dict[str, float]:
    """R@1, R@5, R@10 in percent and the median rank.

    >>> retrieval_metrics(torch.eye(20))
    {'R@1': 100.0, 'R@5': 100.0, 'R@10': 100.0, 'median_rank': 1.0}
    """
    place = ranks(similarity, positives)
    recall = {f"R@{k}": 100 * (place <= k).float().mean().item() for k in (1, 5, 10)}
    return recall | {"median_rank": place.quantile(0.5).item()}


def chance_metrics(candidates: int) -> dict[str, float]:
    """What guessing scores with one right candidate among so many.

    >>> chance_metrics(200)["R@1"], chance_metrics(200)["median_rank"]
    (0.5, 100.5)
    """
    recall = {f"R@{k}": 100 * min(1.0, k / candidates) for k in (1, 5, 10)}
    return recall | {"median_rank": (candidates + 1) / 2}
