"""Ranks, recall and the score of two clips."""

import pytest
import torch
import torch.nn.functional as F

from cmmixer_hf.metrics import chance_metrics, ranks, retrieval_metrics, segment_similarity

SCORES = torch.randn(50, 50, generator=torch.Generator().manual_seed(0))


def test_ranks_are_the_places_in_the_sorted_list():
    order = SCORES.argsort(1, descending=True)
    places = (order == torch.arange(50)[:, None]).nonzero()[:, 1] + 1
    assert torch.equal(ranks(SCORES), places.float())


def test_a_monotone_change_of_scores_changes_nothing():
    assert torch.equal(ranks(SCORES), ranks(SCORES.exp() * 3 - 1))


def test_the_order_of_candidates_changes_nothing():
    order = torch.randperm(50)
    positives = torch.eye(50, dtype=torch.bool)
    assert torch.equal(ranks(SCORES), ranks(SCORES[:, order], positives[:, order]))


def test_a_collapsed_model_scores_chance():
    collapsed = retrieval_metrics(torch.zeros(200, 200))
    assert collapsed["median_rank"] == chance_metrics(200)["median_rank"] == 100.5
    assert collapsed["R@10"] == 0


def test_a_perfect_model_is_perfect_and_a_reversed_one_last():
    assert retrieval_metrics(torch.eye(20)) == {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1}
    assert torch.equal(ranks(-torch.eye(20)), torch.full((20,), 20.0))


def test_guessing_comes_out_as_chance():
    guessed = retrieval_metrics(torch.rand(4000, 40), torch.eye(40, dtype=torch.bool).repeat(100, 1))
    chance = chance_metrics(40)
    assert guessed["R@5"] == pytest.approx(chance["R@5"], abs=2.5)
    assert guessed["median_rank"] == pytest.approx(chance["median_rank"], abs=2)


def test_any_right_candidate_counts_and_right_ones_do_not_compete():
    scores = torch.tensor([[0.1, 0.9, 0.8, 0.5]])
    positives = torch.tensor([[True, True, True, False]])
    assert ranks(scores, positives).item() == 1
    assert ranks(scores, torch.tensor([[True, False, False, True]])).item() == 3


def test_recall_by_track_is_at_least_the_strict_one():
    tracks = torch.arange(50) // 2
    positives = tracks[:, None] == tracks[None]
    strict, by_track = retrieval_metrics(SCORES), retrieval_metrics(SCORES, positives)
    assert all(by_track[name] >= strict[name] for name in ("R@1", "R@5", "R@10"))


def test_a_query_without_a_right_candidate_is_named():
    with pytest.raises(ValueError, match="query 1 has no right candidate"):
        ranks(torch.zeros(2, 2), torch.tensor([[True, False], [False, False]]))


def test_similarity_is_the_mean_cosine_of_the_segments():
    videos, tracks = (F.normalize(torch.randn(count, 4, 16), dim=-1) for count in (3, 5))
    expected = torch.stack([F.cosine_similarity(video, tracks, dim=-1).mean(1) for video in videos])
    torch.testing.assert_close(segment_similarity(videos, tracks), expected)
    torch.testing.assert_close(segment_similarity(videos, videos).diagonal(), torch.ones(3))


def test_clips_of_different_lengths_are_refused_with_both():
    with pytest.raises(ValueError, match=r"\(4, 16\).*\(3, 16\)"):
        segment_similarity(torch.ones(2, 4, 16), torch.ones(2, 3, 16))
