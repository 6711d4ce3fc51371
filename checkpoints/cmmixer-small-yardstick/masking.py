"""Random masking of tokens and its inverse (§3.3, after MAE), by sorting, never by boolean indexing."""

import torch
from torch import Tensor

# Axes of a spectrogram's grid (batch, frequency, time) along which whole lines of tokens are removed.
MASK_STRUCTURES: dict[str, tuple[int, ...]] = {
    "unstructured": (),
    "frequency": (1,),
    "time": (2,),
    "time_frequency": (1, 2),
}


def random_masking(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which tokens the encoder sees: those with the smallest noise.

    Args:
        noise: (batch, tokens), any real numbers; each sample keeps the tokens of its smallest ones.
        mask_ratio: share of the tokens to remove, as in [`kept_tokens`].

    Returns:
        ids_keep (batch, kept), ids_restore (batch, tokens), and mask (batch, tokens): 0 is kept, 1 is removed.

    >>> ids_keep, ids_restore, mask = random_masking(torch.tensor([[0.3, 0.1, 0.9, 0.2]]), 0.5)
    >>> ids_keep.tolist(), mask.tolist()
    ([[1, 3]], [[1.0, 0.0, 1.0, 0.0]])
    """
    tokens = noise.shape[1]
    kept = kept_tokens(tokens, mask_ratio)
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= kept).float()
    return ids_shuffle[:, :kept], ids_restore, mask


def kept_tokens(tokens: int, mask_ratio: float) -> int:
    """How many of so many tokens the encoder sees: as many as MAE keeps, rounded down, but at least one.

    Raises:
        ValueError: `mask_ratio` does not lie in [0, 1).

    >>> kept_tokens(1568, 0.75), kept_tokens(16, 0.9), kept_tokens(4, 0.9)
    (392, 1, 1)
    """
    if not 0 <= mask_ratio < 1:
        raise ValueError(f"mask_ratio must lie in [0, 1), got {mask_ratio}")
    return max(1, int(tokens * (1 - mask_ratio)))


def check_hides(mask_ratio: float, tokens: int, name: str = "patches") -> None:
    """Refuse a mask that hides none of so many `tokens`: a loss over hidden patches would be no number."""
    if kept_tokens(tokens, mask_ratio) == tokens:
        raise ValueError(
            f"mask_ratio={mask_ratio} hides none of {tokens} {name}, which leaves nothing to reconstruct: raise it, "
            "show more patches, or leave that loss out"
        )


def masking_noise(noise: Tensor | None, batch: int, tokens: int, *, device: torch.device | None = None) -> Tensor:
    """The given `noise`, or where there is none, uniform in [0, 1): (batch, tokens).

    Raises:
        ValueError: the given one has another shape.

    >>> masking_noise(None, 2, 6).shape
    torch.Size([2, 6])
    """
    if noise is None:
        return torch.rand(batch, tokens, device=device)
    if tuple(noise.shape) != (batch, tokens):
        raise ValueError(f"expected noise of shape (batch, tokens) = {(batch, tokens)}, got {tuple(noise.shape)}")
    return noise


def structure_noise(noise: Tensor, grid: tuple[int, int], mask_ratio: float, structure: str) -> Tensor:
    """Noise under which [`random_masking`] removes whole lines of a spectrogram's tokens (CAV-MAE's ablation).

    The lines with the largest sums of noise go first; what the ratio then still lacks goes by the noise itself. With
    both axes each loses a share s of its lines, (1 − s)² = 1 − ratio.

    Args:
        noise: (batch, rows · columns), uniform in [0, 1).
        grid: rows (frequencies) and columns (times).
        mask_ratio: as in [`random_masking`].
        structure: a key of `MASK_STRUCTURES`.

    >>> noise = torch.tensor([[0.1, 0.9, 0.2, 0.3, 0.4, 0.5]])
    >>> random_masking(structure_noise(noise, (2, 3), 0.34, "time"), 0.34)[2].view(2, 3).tolist()
    [[0.0, 1.0, 0.0], [0.0, 1.0, 1.0]]
    """
    table = noise.unflatten(1, grid)
    axes = MASK_STRUCTURES[structure]
    share = mask_ratio if len(axes) < 2 else 1 - (1 - mask_ratio) ** 0.5
    removed = torch.zeros_like(table, dtype=torch.bool)
    for axis in axes:
        across = 3 - axis
        places = table.sum(across).argsort(dim=1, descending=True).argsort(dim=1)
        removed = removed | (places < int(share * table.shape[axis])).unsqueeze(across)
    return (table + removed).flatten(1)


def even_noise(noise: Tensor, segments: int) -> Tensor:
    """Noise under which [`random_masking`] removes equally many tokens of every segment, to within one.

    The number before the point is a token's rank in its own segment, the one behind it, its rank among all tokens,
    decides which segments lose one token more.

    Args:
        noise: (batch, tokens), any real numbers; tokens of a segment lie next to one another.
        segments: how many there are.

    >>> noise = even_noise(torch.tensor([[0.1, 0.2, 0.3, 0.9, 0.8, 0.7]]), 2)
    >>> random_masking(noise, 1 / 3)[2].view(2, 3).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    own_rank = noise.unflatten(1, (segments, -1)).argsort(-1).argsort(-1).flatten(1)
    return own_rank + noise.argsort(-1).argsort(-1) / noise.shape[1]


def select(tokens: Tensor, ids_keep: Tensor) -> Tensor:
    """The kept tokens, (batch, tokens, dim) → (batch, kept, dim)."""
    return tokens.gather(1, ids_keep[..., None].expand(-1, -1, tokens.shape[-1]))


def restore(visible: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """Put the visible tokens back in their places and `mask_token` (1, 1, dim) in all others.

    >>> ids_keep, ids_restore, _ = random_masking(torch.rand(1, 4), 0.5)
    >>> tokens = torch.arange(1.0, 5.0).view(1, 4, 1)
    >>> restored = restore(select(tokens, ids_keep), torch.zeros(1, 1, 1), ids_restore)
    >>> bool(((restored == tokens) | (restored == 0)).all())
    True
    """
    batch, kept, dim = visible.shape
    hidden = mask_token.to(visible.dtype).expand(batch, ids_restore.shape[1] - kept, dim)
    return select(torch.cat([visible, hidden], 1), ids_restore)
