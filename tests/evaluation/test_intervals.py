"""Intervals and spreads."""

import pytest
import torch
from scipy import stats

from cmmixer_hf.evaluation.intervals import bootstrap_interval, mean_and_spread

VALUES = torch.randn(200, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_the_interval_of_a_mean_is_the_one_of_theory_and_of_scipy():
    low, high = bootstrap_interval(torch.mean, VALUES, resamples=4000)
    half = 1.96 * VALUES.std().item() / 200**0.5
    assert low == pytest.approx(VALUES.mean().item() - half, abs=0.1 * half)
    assert high == pytest.approx(VALUES.mean().item() + half, abs=0.1 * half)
    theirs = stats.bootstrap((VALUES.numpy(),), lambda values, axis: values.mean(axis), method="percentile", rng=0)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.15 * half)


def test_it_covers_the_truth_about_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for seed in range(200):
        sample = (torch.rand(100, generator=generator) < 0.3).double()
        low, high = bootstrap_interval(torch.mean, sample, resamples=200, seed=seed)
        covered += low <= 0.3 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_a_seed_gives_the_same_interval_and_another_one_a_close_one():
    first, again, other = (bootstrap_interval(torch.mean, VALUES, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first == pytest.approx(other, abs=0.05)


def test_more_confidence_is_a_wider_interval_and_no_variation_none():
    narrow, wide = (bootstrap_interval(torch.mean, VALUES, confidence=confidence) for confidence in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]
    assert bootstrap_interval(torch.mean, torch.full((3,), 7.0)) == (7.0, 7.0)


def test_samples_are_drawn_together():
    low, high = bootstrap_interval(lambda first, second: (first - second).abs().sum(), VALUES, VALUES)
    assert low == high == 0


@pytest.mark.parametrize(("samples", "wrong"), [(0, {}), (3, {"resamples": 0}), (3, {"confidence": 1.0})])
def test_what_gives_no_interval_is_refused(samples, wrong):
    with pytest.raises(ValueError, match="at least one sample"):
        bootstrap_interval(torch.mean, torch.ones(samples), **wrong)


def test_one_fold_has_no_spread():
    with pytest.raises(ValueError, match="at least two values, got 1"):
        mean_and_spread([1.0])
