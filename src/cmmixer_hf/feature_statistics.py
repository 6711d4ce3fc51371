"""Hand-made features of a segment: colours of a frame, mel statistics of a window of sound.

What retrieval was built on before features were learned; CBMVR (`modeling_cbmvr.py`) still describes its music so.
"""

import torch
from torch import Tensor, nn


def colour_statistics(stack: Tensor, cells: int) -> Tensor:
    """Mean and standard deviation of each colour in each cell of a coarse grid.

    Args:
        stack: frames, (batch, K, channels, height, width), in any units.
        cells: a side of the grid; height and width hold at least so many pixels.

    Returns:
        (batch, K, 2 · channels · cells²), in the units of `stack`.

    >>> colour_statistics(torch.ones(2, 8, 3, 32, 32), cells=4).shape
    torch.Size([2, 8, 96])
    """
    frames = stack.flatten(0, 1)
    mean = nn.functional.adaptive_avg_pool2d(frames, cells)
    variance = nn.functional.adaptive_avg_pool2d(frames.square(), cells) - mean.square()
    return torch.cat([mean, variance.clamp(min=0).sqrt()], 1).flatten(1).unflatten(0, stack.shape[:2])


def mel_statistics(stack: Tensor, bands: int) -> Tensor:
    """Mean, standard deviation and maximum over time of log-mel bands and of their changes from column to column.

    Args:
        stack: spectrograms, (batch, K, channels, height, width), frequency up and time across; at least two columns.
            The channels are copies of one another, and their mean is taken.
        bands: how many bands the rows are averaged into.

    Returns:
        (batch, K, 6 · bands), in the units of `stack`.

    >>> mel_statistics(torch.ones(2, 8, 3, 32, 32), bands=16).shape
    torch.Size([2, 8, 96])
    """
    rows = stack.mean(2)
    levels = nn.functional.adaptive_avg_pool2d(rows, (bands, rows.shape[-1]))
    parts = []
    for curves in (levels, levels.diff(dim=-1)):
        parts += [curves.mean(-1), curves.std(-1, correction=0), curves.amax(-1)]
    return torch.cat(parts, -1)
