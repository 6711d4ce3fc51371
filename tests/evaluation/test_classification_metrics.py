"""Top-k accuracy and mAP, beside scikit-learn's."""

import warnings

import pytest
import torch
from sklearn.metrics import average_precision_score, top_k_accuracy_score

from cmmixer_hf.evaluation.metrics import (
    average_groups,
    average_precisions,
    chance_accuracy,
    chance_average_precision,
    mean_average_precision,
    top_k_hits,
)

GENERATOR = torch.Generator().manual_seed(0)


def one_hot(classes: torch.Tensor, count: int) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, count).bool()


def test_accuracy_is_scikit_learns():
    scores, classes = torch.randn(300, 12, generator=GENERATOR), torch.randint(12, (300,), generator=GENERATOR)
    for k in (1, 5):
        expected = 100 * top_k_accuracy_score(classes, scores, k=k, labels=range(12))
        assert 100 * top_k_hits(scores, one_hot(classes, 12), k).mean().item() == pytest.approx(expected)


@pytest.mark.parametrize("levels", [None, 5])
def test_average_precision_is_scikit_learns_with_and_without_ties(levels):
    scores, labels = torch.rand(200, 7, generator=GENERATOR), torch.rand(200, 7, generator=GENERATOR) < 0.2
    scores = scores if levels is None else (scores * levels).round() / levels
    expected = torch.tensor([average_precision_score(labels[:, name], scores[:, name]) for name in range(7)])
    torch.testing.assert_close(average_precisions(scores, labels), expected.double())
    assert mean_average_precision(scores, labels) == pytest.approx(
        100 * average_precision_score(labels, scores, average="macro")
    )


def test_a_class_that_nobody_has_does_not_count():
    scores, labels = torch.rand(50, 3, generator=GENERATOR), torch.rand(50, 3, generator=GENERATOR) < 0.3
    labels[:, 1] = False
    kept = [0, 2]
    assert mean_average_precision(scores, labels) == pytest.approx(
        mean_average_precision(scores[:, kept], labels[:, kept])
    )
    with pytest.raises(ValueError, match="no sample has any label"):
        mean_average_precision(scores, torch.zeros_like(labels))


def test_guessing_comes_out_as_chance():
    classes = torch.randint(20, (5000,), generator=GENERATOR)
    guesses = torch.rand(5000, 20, generator=GENERATOR)
    for k in (1, 5):
        labels = one_hot(classes, 20)
        assert 100 * top_k_hits(guesses, labels, k).mean().item() == pytest.approx(chance_accuracy(labels, k), abs=2)
    few = torch.zeros(12, 2, dtype=torch.bool)
    few[:1, 0], few[:5, 1] = True, True
    scored = [mean_average_precision(torch.rand(12, 2, generator=GENERATOR), few) for _ in range(2000)]
    assert sum(scored) / len(scored) == pytest.approx(chance_average_precision(few), abs=1)


def test_a_collapsed_model_is_not_perfect():
    labels = one_hot(torch.zeros(10, dtype=torch.long), 4)
    assert top_k_hits(torch.zeros(10, 4), labels).sum() == 0
    labels = torch.rand(100, 4, generator=GENERATOR) < 0.25
    assert mean_average_precision(torch.zeros(100, 4), labels) == pytest.approx(100 * labels.float().mean().item())


def test_averaging_is_the_mean_of_each_group_in_any_order():
    values, groups = torch.rand(30, 4, generator=GENERATOR), torch.arange(30) % 7
    means = average_groups(values, groups)
    for group in range(7):
        torch.testing.assert_close(means[group], values[groups == group].mean(0))
    order = torch.randperm(30, generator=GENERATOR)
    torch.testing.assert_close(average_groups(values[order], groups[order]), means)
    torch.testing.assert_close(average_groups(values, torch.arange(30)), values)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(3, 5\)"):
        top_k_hits(torch.zeros(3, 4), torch.zeros(3, 5).bool())
    with pytest.raises(ValueError, match="1 samples have scores that are not numbers"):
        average_precisions(torch.tensor([[0.0], [float("nan")]]), torch.ones(2, 1).bool())


def test_no_warnings_for_a_missing_class():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert average_precisions(torch.rand(3, 2), torch.tensor([[True, False]] * 3)).isnan().tolist() == [False, True]
