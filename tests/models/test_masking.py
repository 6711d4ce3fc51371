"""Random masking and its inverse."""

import pytest
import torch

from cmmixer_hf.models.masking import (
    MASK_STRUCTURES,
    even_noise,
    kept_tokens,
    masking_noise,
    random_masking,
    restore,
    select,
    structure_noise,
)

NOISE = torch.rand(3, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 0.75, 0.99])
def test_kept_and_removed_tokens_divide_all(ratio):
    ids_keep, _, mask = random_masking(NOISE, ratio)
    kept = max(1, int(24 * (1 - ratio)))
    assert ids_keep.shape == (3, kept)
    assert mask.sum(1).tolist() == [24 - kept] * 3
    assert mask.gather(1, ids_keep).sum() == 0


@pytest.mark.parametrize(
    ("tokens", "ratio", "kept"), [(16, 0.9, 1), (8, 0.06, 7), (4, 0.1, 3), (1, 0.5, 1), (1568, 0.75, 392), (3, 0.99, 1)]
)
def test_as_many_tokens_are_kept_as_mae_keeps_and_one_at_least(tokens, ratio, kept):
    assert kept_tokens(tokens, ratio) == max(1, int(tokens * (1 - ratio))) == kept


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan")])
def test_an_impossible_ratio_is_refused(ratio):
    with pytest.raises(ValueError, match=r"mask_ratio must lie in \[0, 1\), got"):
        random_masking(NOISE, ratio)


def test_noise_of_another_shape_is_refused_with_both():
    assert masking_noise(NOISE, 3, 24) is NOISE
    with pytest.raises(ValueError, match=r"\(3, 25\), got \(3, 24\)"):
        masking_noise(NOISE, 3, 25)


def test_even_noise_breaks_ties_between_segments_by_the_noise():
    """Which segments lose a token more is drawn too; none is preferred."""
    noise = torch.rand(4000, 12, generator=torch.Generator().manual_seed(1))
    assert len(even_noise(noise, 4).unique()) > 12
    removed = random_masking(even_noise(noise, 4), 0.5)[2].unflatten(1, (4, 3)).sum(2)
    assert set(removed.unique().tolist()) == {1.0, 2.0}
    assert (removed.mean(0) - 1.5).abs().max() < 0.05


def test_the_smallest_noise_stays():
    ids_keep, _, mask = random_masking(NOISE, 0.5)
    assert (NOISE.masked_fill(mask.bool(), -1).amax(1) < NOISE.masked_fill(~mask.bool(), 2).amin(1)).all()
    assert torch.equal(NOISE.gather(1, ids_keep).diff(dim=1) >= 0, torch.ones(3, 11, dtype=torch.bool))


def test_restoring_undoes_selecting():
    tokens = torch.randn(3, 24, 5)
    ids_keep, ids_restore, mask = random_masking(NOISE, 0.75)
    mask_token = torch.full((1, 1, 5), 7.0)
    restored = restore(select(tokens, ids_keep), mask_token, ids_restore)
    assert torch.equal(restored, torch.where(mask[..., None].bool(), mask_token, tokens))


def test_nothing_masked_gives_back_every_token():
    tokens = torch.randn(3, 24, 5)
    ids_keep, ids_restore, mask = random_masking(NOISE, 0.0)
    assert torch.equal(restore(select(tokens, ids_keep), torch.zeros(1, 1, 5), ids_restore), tokens)
    assert mask.sum() == 0


def test_gradients_reach_visible_and_mask_tokens():
    visible = torch.randn(3, 6, 5, requires_grad=True)
    mask_token = torch.zeros(1, 1, 5, requires_grad=True)
    restore(visible, mask_token, random_masking(NOISE, 0.75)[1]).sum().backward()
    assert torch.equal(visible.grad, torch.ones_like(visible))
    assert torch.equal(mask_token.grad, torch.full((1, 1, 5), 3 * 18.0))


@pytest.mark.parametrize(
    ("structure", "columns", "rows"), [("time", 12, 0), ("frequency", 0, 6), ("time_frequency", 8, 4)]
)
def test_structured_masks_remove_whole_lines(structure, columns, rows):
    noise = torch.rand(50, 8 * 16, generator=torch.Generator().manual_seed(0))
    mask = random_masking(structure_noise(noise, (8, 16), 0.75, structure), 0.75)[2].view(50, 8, 16)
    assert mask.sum((1, 2)).tolist() == [96] * 50
    whole_columns, whole_rows = mask.all(1).sum(1), mask.all(2).sum(1)
    assert (whole_columns >= columns).all()
    assert (whole_rows >= rows).all()
    assert len(mask.unique(dim=0)) > 15
    often = mask.mean(0)  # no line is preferred
    assert often.min() > 0.5
    assert often.max() < 0.95


@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("structure", MASK_STRUCTURES)
def test_a_structure_changes_which_tokens_go_and_not_how_many(structure, ratio):
    noise = torch.rand(3, 96, generator=torch.Generator().manual_seed(0))
    structured = structure_noise(noise, (8, 12), ratio, structure)
    assert torch.equal(structured, noise) == (structure == "unstructured")
    assert random_masking(structured, ratio)[2].sum(1).tolist() == [96 - kept_tokens(96, ratio)] * 3


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.7])
def test_even_noise_removes_as_much_of_every_segment_and_prefers_no_place(ratio):
    noise = torch.rand(2000, 24, generator=torch.Generator().manual_seed(0))
    mask = random_masking(even_noise(noise, 4), ratio)[2]
    removed = mask.unflatten(1, (4, 6)).sum(2)
    assert (removed.amax(1) - removed.amin(1)).max() <= 1
    assert mask.unflatten(1, (4, 6)).mean(0).std(-1).max() < 0.03
