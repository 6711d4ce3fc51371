"""Losses by order rather than by probability: ranking between modalities, and soft structure within one (CBMVR)."""

import torch
from torch import Tensor, nn

from ..losses import at_least_float32, gather, positive_pairs


def triplet_loss(
    anchors: Tensor,
    candidates: Tensor,
    *,
    margin: float = 0.1,
    top_share: float = 0.1,
    track_id: Tensor | None = None,
) -> Tensor:
    """Ranking with the worst violations: the mean over i and j ∈ top(i) of max(0, margin − s(i, p) + s(i, j)).

    s is the cosine, p the farthest clip of the anchor's own track, and top(i) the nearest clips of other tracks. Under
    `torch.distributed` candidates are those of all processes, as in `info_nce`.

    Args:
        anchors, candidates: L2-normalised embeddings of clips, (batch, dim), paired by position.
        margin: in cosine.
        top_share: how many of the others count, as a share in (0, 1]; at least one does.
        track_id: (batch,) integers; clips that share a track are positives of one another.

    Raises:
        ValueError: the two differ in shape.

    >>> triplet_loss(torch.eye(4), torch.eye(4)).item()
    0.0
    >>> round(triplet_loss(torch.eye(4), torch.eye(4).roll(1, 0), top_share=1.0).item(), 3)
    0.433
    """
    if anchors.shape != candidates.shape:
        raise ValueError(f"ranking pairs by position: got {tuple(anchors.shape)} and {tuple(candidates.shape)}")
    positive = positive_pairs(anchors[:, None], track_id).bool()
    with torch.autocast(anchors.device.type, enabled=False):
        similarity = at_least_float32(anchors) @ at_least_float32(gather(candidates)).T
        own = similarity.masked_fill(~positive, float("inf")).amin(1, keepdim=True)
        count = max(1, round(top_share * (similarity.shape[1] - 1)))
        nearest = similarity.masked_fill(positive, float("-inf")).topk(count).values
        return (margin - own + nearest).clamp(min=0).mean()


def structure_loss(features: Tensor, embeddings: Tensor) -> Tensor:
    """Soft intra-modal structure: what was nearer among the features shall be nearer among the embeddings.

    The mean over i and j of C_ij · (s(i, j) − s(i, j + 1)), s the cosine of embeddings, C_ij the sign of that
    difference minus the sign of the same difference among features: nothing where both agree, twice the size of the
    difference where they do not. Neighbours in a shuffled batch are a sample of its triples (i, j, k), as in the
    authors' released code; all of them would grow with the cube of the batch.

    Args:
        features, embeddings: of the clips of this process in one modality, (batch, feature size) and (batch, dim).

    >>> clips = torch.nn.functional.normalize(torch.randn(6, 8), dim=-1)
    >>> structure_loss(clips, clips).item()
    0.0
    """
    before, after = (_steps_between_neighbours(clips) for clips in (features, embeddings))
    disagreement = after.sign() - before.sign()
    return (disagreement * after).sum() / max(1, after.numel())


def _steps_between_neighbours(clips: Tensor) -> Tensor:
    """s(i, j) − s(i, j + 1) for all i and j, (batch, batch − 1)."""
    with torch.autocast(clips.device.type, enabled=False):
        normal = nn.functional.normalize(at_least_float32(clips), dim=-1)
        return -(normal @ normal.T).diff(dim=1)
