"""Eq. 1 (§3.2): the coefficient matrix M of CutMix, Pixel Mixup and Mixup, and the mixture M ⊙ I^v + (1 − M) ⊙ I^a.

M is 1 where the *video* shows. Every mask has shape (batch, frames, 1, height, width): one channel, shared over RGB.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

# Candidates per box when boxes must not overlap; a sample in which none fits gets fewer boxes.
PLACEMENT_TRIES = 32
BOX_CONTENTS = ("random", "video_in_box")
LEVELS = ("frame", "video")


def mix(video: Tensor, audio: Tensor, mask: Tensor) -> Tensor:
    """Eq. 1 on stacks of shape (batch, frames, channels, height, width), `mask` (batch, frames, 1, height, width).

    Raises:
        ValueError: the stacks or the mask differ in shape.

    >>> video, audio = torch.ones(1, 2, 3, 4, 4), torch.zeros(1, 2, 3, 4, 4)
    >>> mix(video, audio, torch.full((1, 2, 1, 4, 4), 0.25)).unique().tolist()
    [0.25]
    """
    if video.shape != audio.shape:
        raise ValueError(f"mixing needs one shape, got video {tuple(video.shape)} and audio {tuple(audio.shape)}")
    expected = (*video.shape[:2], 1, *video.shape[3:])
    if tuple(mask.shape) != expected:
        raise ValueError(f"expected a mixing mask of shape {expected}, got {tuple(mask.shape)}")
    mask = mask.to(video.dtype)
    return mask * video + (1 - mask) * audio


def cutmix_mask(
    batch: int,
    frames: int,
    size: tuple[int, int],
    *,
    num_boxes: int = 1,
    direction: str = "random",
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """CutMix: boxes of side √((1 − λ)/s), λ ~ Beta(1, 1), around a uniform centre, cut off at the border.

    Args:
        batch, frames, size: the stack; a fresh mask for each frame. `size` is (height, width) in pixels.
        num_boxes: s, boxes a frame. Boxes never overlap: one that finds no free place is left out.
        direction: `"random"` draws for each sample which modality is inside the boxes (p = ½); `"video_in_box"` is the
            paper's text. A box that is cut off covers only 0.32 of the frame on average, so a fixed side starves one.
        generator: where the draws come from; a CPU generator gives the same bits on every device.
        device: where the mask lies.

    Returns:
        float mask of zeros and ones, (batch, frames, 1, height, width).

    Raises:
        ValueError: an unknown direction, or a number below 1.

    >>> mask = cutmix_mask(2, 8, (32, 32), generator=torch.Generator().manual_seed(0))
    >>> mask.shape, mask.unique().tolist()
    (torch.Size([2, 8, 1, 32, 32]), [0.0, 1.0])
    """
    if direction not in BOX_CONTENTS:
        raise ValueError(f"direction must be one of {BOX_CONTENTS}, got {direction!r}")
    if num_boxes < 1:
        raise ValueError(f"num_boxes must be at least 1, got {num_boxes}")
    count = batch * frames
    draw = partial(_uniform, generator=generator, device=device)
    side = ((1 - draw(count, 1)) / num_boxes).sqrt()
    boxes = _place_boxes(side, size, num_boxes=num_boxes, draw=draw)
    inside = _cover(boxes, size).view(batch, frames, 1, *size)
    if direction == "random":
        inside = inside ^ (draw(batch, 1, 1, 1, 1) < 0.5)
    return inside.float()


def pixel_mask(
    batch: int,
    frames: int,
    size: tuple[int, int],
    *,
    probability: float = 0.5,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Pixel Mixup: each pixel shows the video with `probability`, (batch, frames, 1, height, width).

    >>> pixel_mask(1, 2, (16, 16), probability=1.0).mean().item()
    1.0
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must lie in [0, 1], got {probability}")
    return (_uniform(batch, frames, 1, *size, generator=generator, device=device) < probability).float()


def mixup_mask(
    batch: int,
    frames: int,
    size: tuple[int, int],
    *,
    alpha: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    """Mixup: M = λ everywhere, λ ~ Beta(α, α) for each frame, (batch, frames, 1, height, width).

    `alpha` is the paper's 1 (§3.2), where λ is uniform; below it one modality prevails, above it both show alike.

    >>> mask = mixup_mask(1, 3, (8, 8), generator=torch.Generator().manual_seed(0))
    >>> [len(frame.unique()) for frame in mask[0]]
    [1, 1, 1]
    """
    if not alpha > 0:
        raise ValueError(f"alpha must be positive, got {alpha}")
    if alpha == 1:
        share = _uniform(batch, frames, 1, 1, 1, generator=generator, device=device)
    else:
        source = device if generator is None else generator.device
        pairs = torch.full((batch, frames, 1, 1, 1, 2), float(alpha), device=source)
        share = torch._sample_dirichlet(pairs, generator).to(device)[..., 0]
    return share.expand(batch, frames, 1, *size)


MIXERS: dict[str, Callable[..., Tensor]] = {"cutmix": cutmix_mask, "pixel": pixel_mask, "mixup": mixup_mask}


def draw_mask(
    mixer: str,
    batch: int,
    frames: int,
    size: tuple[int, int],
    *,
    level: str = "frame",
    **options: Any,
) -> Tensor:
    """M by the name of a mixer in [`MIXERS`], (batch, frames, 1, height, width).

    Args:
        mixer, batch, frames, size: which mixer, and the stack.
        level: `"frame"` draws afresh for each frame, `"video"` once for all frames of a clip.
        options: further keywords of the mixer's function.

    >>> mask = draw_mask("cutmix", 2, 8, (32, 32), level="video", num_boxes=2)
    >>> mask.shape, bool((mask == mask[:, :1]).all())
    (torch.Size([2, 8, 1, 32, 32]), True)
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    drawn = _mixer(mixer)(batch, frames if level == "frame" else 1, size, **options)
    return drawn.expand(-1, frames, -1, -1, -1)


def check_mixer(mixer: str, options: dict[str, Any]) -> None:
    """Refuse a name that is no mixer, and options that [`draw_mask`] would not take for it.

    >>> check_mixer("mixup", {"num_boxes": 2})
    Traceback (most recent call last):
    ValueError: mixer_kwargs of 'mixup' may hold ['alpha', 'level'], got ['num_boxes']
    """
    parameters = inspect.signature(_mixer(mixer)).parameters
    allowed = {"level", *parameters} - {"batch", "frames", "size", "generator", "device"}
    if unknown := sorted(set(options) - allowed):
        raise ValueError(f"mixer_kwargs of {mixer!r} may hold {sorted(allowed)}, got {unknown}")
    draw_mask(mixer, 1, 1, (1, 1), generator=torch.Generator(), device="cpu", **options)  # each checks its own values


def _mixer(name: str) -> Callable[..., Tensor]:
    if name not in MIXERS:
        raise ValueError(f"mixer must be one of {tuple(MIXERS)}, got {name!r}")
    return MIXERS[name]


def _uniform(*shape: int, generator: torch.Generator | None, device: torch.device | str | None) -> Tensor:
    source = device if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=source).to(device)


def _place_boxes(side: Tensor, size: tuple[int, int], *, num_boxes: int, draw: Callable[..., Tensor]) -> Tensor:
    """Boxes (count, num_boxes, 4) as top, left, bottom, right; each is the first of its candidates that is free."""
    tries = 1 if num_boxes == 1 else PLACEMENT_TRIES
    placed: list[Tensor] = []
    for _ in range(num_boxes):
        candidates = _candidate_boxes(side, size, tries=tries, draw=draw)
        taken = torch.zeros(candidates.shape[:2], dtype=torch.bool, device=side.device)
        for box in placed:
            taken = taken | _overlap(candidates, box)
        first_free = taken.long().argmin(1)[:, None, None].expand(-1, 1, 4)
        box = candidates.gather(1, first_free)
        placed.append(box * ~taken.all(1)[:, None, None])
    return torch.cat(placed, 1)


def _candidate_boxes(side: Tensor, size: tuple[int, int], *, tries: int, draw: Callable[..., Tensor]) -> Tensor:
    extent = torch.tensor(size, device=side.device)
    centre = draw(len(side), tries, 2) * extent
    half = (side[:, None] * extent) / 2
    edges = torch.cat([centre - half, centre + half], -1).round().long()
    return torch.minimum(edges.clamp(min=0), extent.repeat(2))


def _overlap(first: Tensor, second: Tensor) -> Tensor:
    start = torch.maximum(first[..., :2], second[..., :2])
    end = torch.minimum(first[..., 2:], second[..., 2:])
    return (start < end).all(-1)


def _cover(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Pixels inside any of the boxes: (count, boxes, 4) → (count, height, width)."""
    top, left, bottom, right = boxes[..., None].unbind(-2)
    rows, columns = (torch.arange(length, device=boxes.device) for length in size)
    inside_rows = (rows >= top) & (rows < bottom)
    inside_columns = (columns >= left) & (columns < right)
    return (inside_rows[..., :, None] & inside_columns[..., None, :]).any(1)
