"""Scores of clips from their segments' embeddings (§3.4, §5.2): by segments, pooled, and of bent queries."""

from collections.abc import Sequence

from torch import Tensor, nn

LEAST_LENGTH = 1e-3  # of a bent segment; what cancels leaves rounding errors of 1e-7


def segment_similarity(queries: Tensor, candidates: Tensor) -> Tensor:
    """Mean over l of cos(P_l, P′_l), which is what Eq. 2 trains: (N, K, dim), (M, K, dim) → (N, M) in [−1, 1].

    Both are L2-normalised segment embeddings of clips with the same number of segments.
    """
    if queries.shape[1:] != candidates.shape[1:]:
        raise ValueError(f"clips differ in segments or size: {tuple(queries.shape[1:])}, {tuple(candidates.shape[1:])}")
    return queries.flatten(1) @ candidates.flatten(1).T / queries.shape[1]


def pool_segments(segments: Tensor) -> Tensor:
    """One vector a clip: the mean of its segments, L2-normalised, (N, K, dim) → (N, 1, dim).

    >>> import torch
    >>> pool_segments(torch.eye(2)[None]).round(decimals=3)
    tensor([[[0.7070, 0.7070]]])
    """
    return nn.functional.normalize(segments.mean(1, keepdim=True), dim=-1)


def combine_queries(query: Tensor, *, plus: Sequence[Tensor] = (), minus: Sequence[Tensor] = ()) -> Tensor:
    """A flexible query (§5.2): normalise(a + b − c), segment by segment.

    The paper pads M or Mₐ "if necessary"; here it never is, for every clip has K segments, and each its vector.

    Args:
        query: a, L2-normalised segment embeddings, (K, dim).
        plus: every b, of the same shape; scale it to weigh it.
        minus: every c, likewise.

    Raises:
        ValueError: a segment of the sum is as good as nothing, so that its direction would be that of rounding errors.

    >>> import torch
    >>> a, b = torch.eye(4)[None, 0], torch.eye(4)[None, 1]
    >>> [round(value, 3) for value in combine_queries(a, plus=[b])[0].tolist()]
    [0.707, 0.707, 0.0, 0.0]
    """
    combined = query + sum(plus) - sum(minus)
    if not (combined.norm(dim=-1) > LEAST_LENGTH).all():
        raise ValueError("what is added and taken away leaves nothing of the query: bend it by less")
    return nn.functional.normalize(combined, dim=-1)
