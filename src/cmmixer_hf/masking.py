"""Random masking of tokens and its inverse (§3.3, after MAE), by sorting, never by boolean indexing."""

import torch
from torch import Tensor


def random_masking(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Which tokens the encoder sees: those with the smallest noise.

    Args:
        noise: (batch, tokens), any real numbers; each sample keeps the tokens of its smallest ones.
        mask_ratio: share of the tokens to remove, in [0, 1). At least one token stays.

    Returns:
        ids_keep (batch, kept), ids_restore (batch, tokens), and mask (batch, tokens): 0 is kept, 1 is removed.

    >>> ids_keep, ids_restore, mask = random_masking(torch.tensor([[0.3, 0.1, 0.9, 0.2]]), 0.5)
    >>> ids_keep.tolist(), mask.tolist()
    ([[1, 3]], [[1.0, 0.0, 1.0, 0.0]])
    """
    tokens = noise.shape[1]
    kept = max(1, round(tokens * (1 - mask_ratio)))
    ids_shuffle = noise.argsort(dim=1, stable=True)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= kept).float()
    return ids_shuffle[:, :kept], ids_restore, mask


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
