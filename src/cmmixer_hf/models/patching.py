"""Stacks of images ↔ tokens, and their fixed positions (§3.3).

A clip of K frames is one strip, frames side by side; tokens are ordered frame by frame, row by row, so that a frame's
tokens lie together and Eq. 2 has its segments.
"""

import torch
from torch import Tensor


def check_stack(stack: Tensor, patch_size: int, channels: int) -> Tensor:
    """Refuse a stack that is not (batch, K, channels, H, W) in floating point with H and W multiples of the patch."""
    expected = f"(batch, frames, {channels}, height, width) with sides divisible by {patch_size}"
    shape = tuple(stack.shape)
    if len(shape) != 5 or shape[2] != channels or 0 in shape or any(side % patch_size for side in shape[3:]):
        raise ValueError(f"expected a stack of shape {expected}, got {shape}")
    if not stack.is_floating_point():
        raise ValueError(
            f"expected a normalised floating-point stack, got {stack.dtype}; call the feature extractor first"
        )
    return stack


def patchify(stack: Tensor, patch_size: int) -> Tensor:
    """Cut a stack into patches: (batch, frames, channels, H, W) → (batch, frames · H/p · W/p, p · p · channels).

    >>> stack = torch.rand(2, 8, 3, 32, 48)
    >>> patches = patchify(stack, 16)
    >>> patches.shape, torch.equal(unpatchify(patches, 16, frames=8, size=(32, 48)), stack)
    (torch.Size([2, 48, 768]), True)
    """
    batch, frames, channels, height, width = stack.shape
    rows, columns = height // patch_size, width // patch_size
    grid = stack.reshape(batch, frames, channels, rows, patch_size, columns, patch_size)
    return grid.permute(0, 1, 3, 5, 4, 6, 2).reshape(batch, frames * rows * columns, -1)


def unpatchify(patches: Tensor, patch_size: int, *, frames: int, size: tuple[int, int]) -> Tensor:
    """Inverse of [`patchify`]; `size` is (H, W) in pixels."""
    rows, columns = size[0] // patch_size, size[1] // patch_size
    grid = patches.reshape(patches.shape[0], frames, rows, columns, patch_size, patch_size, -1)
    return grid.permute(0, 1, 6, 2, 4, 3, 5).reshape(patches.shape[0], frames, -1, *size)


def sincos_positions(frames: int, grid: tuple[int, int], dim: int, *, device: torch.device | None = None) -> Tensor:
    """Fixed 2-D sine-cosine positions over the strip, (frames · rows · columns, dim), float32.

    Computed, never stored: any number of frames and any size has its positions, and none can be lost on loading.
    The first half of `dim` encodes the column in the strip, the second the row, each as sine then cosine, which is the
    order of MAE's released weights.

    >>> sincos_positions(8, (14, 14), 768).shape
    torch.Size([1568, 768])
    """
    rows, columns = grid
    index = torch.arange(frames * rows * columns, device=device)
    frame, row, column = index // (rows * columns), index // columns % rows, index % columns
    frequencies = 10000.0 ** (-torch.arange(dim // 4, device=device, dtype=torch.float32) / (dim / 4))
    angles = [place[:, None] * frequencies for place in (frame * columns + column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], 1)
