"""The two objectives: reconstruction of both modalities (§3.3) and InfoNCE over segments (Eq. 2, §3.4)."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


def reconstruction_loss(
    prediction: Tensor, target: Tensor, mask: Tensor | None = None, *, norm_pix: bool = False
) -> Tensor:
    """Mean squared error over the masked patches, in float32 at least.

    Args:
        prediction, target: (batch, tokens, patch pixels); the target is the *original* of one modality.
        mask: (batch, tokens), 1 where a patch counts; all patches where it is `None`.
        norm_pix: compare with the target normalised by each patch's own mean and variance.

    >>> target = torch.zeros(1, 2, 4)
    >>> prediction = torch.stack([torch.ones(4), 3 * torch.ones(4)])[None]
    >>> reconstruction_loss(prediction, target, torch.tensor([[0.0, 1.0]])).item()
    9.0
    """
    target = at_least_float32(target)
    if norm_pix:
        target = normalise_patches(target)[0]
    error = (prediction - target).square().mean(-1)
    return error.mean() if mask is None else (error * mask).sum() / mask.sum()


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32, everything else stays."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def normalise_patches(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each patch with mean 0 and variance 1 (unbiased, ε = 1e-6 as in MAE), and the mean and deviation to undo it."""
    mean = patches.mean(-1, keepdim=True)
    deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation, mean, deviation


def info_nce(
    video: Tensor,
    audio: Tensor,
    temperature: float | Tensor,
    *,
    track_id: Tensor | None = None,
    direction: str = "symmetric",
) -> Tensor:
    """Eq. 2: every segment (i, l) against all segments (j, l′) of the global batch, cosine over τ, mean over anchors.

    Under `torch.distributed` the batch is that of all processes, and after the averaging of gradients by DDP they are
    those of one process with the whole batch. Every process needs the same number of clips.

    Args:
        video, audio: L2-normalised segment embeddings, (batch, K, dim), paired by position.
        temperature: τ.
        track_id: (batch,) integers; clips that share a track are positives of one another, not negatives.
        direction: `"video_to_audio"` is Eq. 2 as printed; `"symmetric"` averages both directions.

    Raises:
        ValueError: the two differ in shape, or processes hold batches of different sizes.

    >>> segments = torch.eye(6).view(3, 2, 6)
    >>> round(info_nce(segments, segments, 0.01).item(), 4)
    0.0
    """
    if video.shape != audio.shape:
        raise ValueError(f"InfoNCE pairs by position: got video {tuple(video.shape)} and audio {tuple(audio.shape)}")
    pairs = [(video, audio), (audio, video)] if direction == "symmetric" else [(video, audio)]
    positive = positive_pairs(video, track_id)
    with torch.autocast(video.device.type, enabled=False):
        losses = [_one_direction(*pair, temperature, positive) for pair in pairs]
    return torch.stack(losses).mean()


def _one_direction(anchors: Tensor, candidates: Tensor, temperature: float | Tensor, positive: Tensor) -> Tensor:
    anchors, candidates = at_least_float32(anchors), at_least_float32(gather(candidates))
    logits = anchors.flatten(0, 1) @ candidates.flatten(0, 1).T / temperature
    log_probability = logits.log_softmax(-1)
    return -((log_probability * positive).sum(-1) / positive.sum(-1)).mean()


def positive_pairs(video: Tensor, track_id: Tensor | None) -> Tensor:
    """(local segments, global segments): 1 where both belong to one track and lie at one place in their clips."""
    batch, segments, _ = video.shape
    if track_id is None:
        rank = dist.get_rank() if is_distributed() else 0
        track_id = torch.arange(batch, device=video.device) + rank * batch
    same_track = (track_id[:, None] == gather(track_id)[None]).float()
    same_place = torch.eye(segments, device=video.device)
    return (same_track[:, None, :, None] * same_place[:, None]).flatten(2).flatten(0, 1)


def gather(tensor: Tensor) -> Tensor:
    """Rows of all processes in the order of their ranks, with exact gradients; the tensor itself with one process."""
    return _AllGather.apply(tensor.contiguous()) if is_distributed() else tensor


def is_distributed() -> bool:
    """Whether several processes work together."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


class _AllGather(torch.autograd.Function):
    """Forward: concatenate; backward: the sum over processes of the gradients for this process's rows."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        sizes = [torch.zeros(1, dtype=torch.long, device=tensor.device) for _ in range(dist.get_world_size())]
        dist.all_gather(sizes, torch.tensor([len(tensor)], device=tensor.device))
        if len({int(size) for size in sizes}) > 1:
            counts = [int(size) for size in sizes]
            raise ValueError(f"processes hold batches of {counts} clips; InfoNCE needs equal ones: drop the last")
        ctx.rows = slice(dist.get_rank() * len(tensor), (dist.get_rank() + 1) * len(tensor))
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient[ctx.rows]
