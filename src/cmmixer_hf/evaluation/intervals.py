"""Uncertainty of scores: bootstrap intervals over samples, mean and spread over folds."""

import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CONFIDENCE = 0.95


def bootstrap_interval(
    statistic: Callable[..., float | Tensor],
    *samples: Tensor,
    resamples: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap: the middle 95 % of a statistic over samples drawn again with replacement.

    Samples are taken as independent of one another; queries that share a track or a recording are less so, and the
    interval is then somewhat too narrow.

    Args:
        statistic: from samples to a number; draws for which it is NaN, since nothing in them has a label, do not count.
        samples: its arguments, each with one row a sample, (N, …), paired by position.
        resamples: how often samples are drawn again.
        confidence: share of the resamples between low and high.
        seed: of the draws.

    Returns:
        low and high, in the unit of the statistic.

    >>> low, high = bootstrap_interval(torch.mean, torch.tensor([1.0, 0.0] * 50))
    >>> round(low, 1), round(high, 1)
    (0.4, 0.6)
    """
    count = len(samples[0])
    if count < 1 or resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            "a bootstrap needs at least one sample, one resample and a confidence in (0, 1), got "
            f"{count}, {resamples} and {confidence}"
        )
    generator = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(resamples):
        drawn = torch.randint(count, (count,), generator=generator)
        values.append(float(statistic(*(sample[drawn] for sample in samples))))
    tail = (1 - confidence) / 2
    low, high = torch.tensor(values, dtype=torch.double).nanquantile(torch.tensor([tail, 1 - tail], dtype=torch.double))
    return low.item(), high.item()


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (n − 1) of a score over folds or seeds.

    >>> mean_and_spread([80.0, 90.0, 85.0])
    (85.0, 5.0)
    """
    if len(values) < 2:
        raise ValueError(f"a spread needs at least two values, got {len(values)}")
    return statistics.mean(values), statistics.stdev(values)
