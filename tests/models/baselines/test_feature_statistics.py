"""Hand-made features: by definition, and what they must not depend on."""

import torch

from cmmixer_hf.models.baselines.frozen_features import colour_statistics, mel_statistics


def test_colours_are_mean_and_deviation_of_each_cell():
    stack = torch.randn(2, 3, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    features = colour_statistics(stack, 2).view(2, 3, 2, 3, 2, 2)
    cell = stack[1, 2, 0, 4:, :6]  # second clip, third frame, first channel, lower left
    torch.testing.assert_close(features[1, 2, 0, 0, 1, 0], cell.mean())
    torch.testing.assert_close(features[1, 2, 1, 0, 1, 0], cell.std(correction=0))


def test_one_colour_deviates_nowhere_and_nothing_is_nan():
    features = colour_statistics(torch.full((1, 1, 3, 8, 8), 1.7), 4)
    assert features[..., 48:].abs().max() < 1e-2
    assert features.isfinite().all()


def test_mel_bands_are_summed_up_over_time():
    stack = torch.randn(1, 2, 1, 8, 10, generator=torch.Generator().manual_seed(0)).expand(-1, -1, 3, -1, -1)
    features = mel_statistics(stack, 4)[0, 1].view(6, 4)
    band = stack[0, 1, 0, 2:4].mean(0)  # the second of four bands
    change = band[1:] - band[:-1]
    expected = [band.mean(), band.std(correction=0), band.max(), change.mean(), change.std(correction=0), change.max()]
    torch.testing.assert_close(features[:, 1], torch.stack(expected))


def test_level_statistics_forget_the_order_of_columns_and_changes_do_not():
    stack = torch.randn(1, 1, 3, 8, 10, generator=torch.Generator().manual_seed(0))
    shuffled = stack[..., torch.randperm(10, generator=torch.Generator().manual_seed(1))]
    before, after = mel_statistics(stack, 8)[0, 0], mel_statistics(shuffled, 8)[0, 0]
    torch.testing.assert_close(before[:24], after[:24])
    assert (before[32:40] - after[32:40]).abs().min() > 1e-3
