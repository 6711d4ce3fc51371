"""Ranks, recall and the score of two clips."""

import pytest
import torch
import torch.nn.functional as F

from cmmixer_hf.evaluation.metrics import (
    chance_metrics,
    median_rank,
    rank_pool,
    ranks,
    recall_at,
    retrieval_metrics,
    two_way_choice,
)
from cmmixer_hf.models.similarity import pool_segments, segment_similarity

GENERATOR = torch.Generator().manual_seed(1)
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


def test_similarities_that_are_no_numbers_are_no_perfect_score():
    with pytest.raises(ValueError, match="1 queries have similarities that are not numbers"):
        ranks(torch.tensor([[1.0, 0.0], [float("nan"), float("nan")]]))


def test_blocks_change_no_rank():
    videos, tracks = (F.normalize(torch.randn(31, 2, 8), dim=-1) for _ in range(2))
    groups = torch.arange(31) // 3
    expected = ranks(segment_similarity(videos, tracks), groups[:, None] == groups)
    for block in (1, 100, 10_000):
        assert torch.equal(rank_pool(videos, tracks, groups, block=block), expected)


def test_chance_with_several_right_candidates_is_what_guessing_scores():
    tracks = torch.arange(40).clamp(max=30)  # the last one's song is in ten clips
    positives = tracks[:, None] == tracks
    repeats = 500
    place = ranks(torch.rand(40 * repeats, 40, generator=GENERATOR), positives.repeat(repeats, 1))
    chance = chance_metrics(40, positives.sum(1))
    for k in (1, 5, 10):
        assert recall_at(place, k).item() == pytest.approx(chance[f"R@{k}"], abs=1.5)
    assert median_rank(place).item() == pytest.approx(chance["median_rank"], abs=0.5)


def test_chance_of_a_pool_that_is_all_right_is_certainty():
    assert chance_metrics(4, torch.tensor([4])) == {"R@1": 100, "R@5": 100, "R@10": 100, "median_rank": 1}


def test_two_way_choice_of_noise_is_a_coin_and_of_the_same_a_tie():
    query, right, wrong = F.normalize(torch.randn(3, 2000, 4, 16, generator=GENERATOR), dim=-1)
    assert two_way_choice(query, right, wrong).mean().item() == pytest.approx(0.5, abs=0.05)
    assert two_way_choice(query, right, right).unique().tolist() == [0.5]
    assert two_way_choice(query, query, wrong).mean().item() == 1
    assert torch.equal(two_way_choice(query, right, wrong), 1 - two_way_choice(query, wrong, right))


def test_two_way_choice_sees_what_pooling_does_not():
    video = F.normalize(torch.randn(50, 4, 16, generator=GENERATOR), dim=-1)
    shuffled = video.roll(1, dims=1)
    assert two_way_choice(video, video, shuffled).mean().item() == 1
    torch.testing.assert_close(pool_segments(video), pool_segments(shuffled))


def test_two_way_choice_refuses_what_is_not_paired():
    with pytest.raises(ValueError, match=r"\(3, 2, 4\).*\(2, 2, 4\)"):
        two_way_choice(torch.ones(3, 2, 4), torch.ones(3, 2, 4), torch.ones(2, 2, 4))
    with pytest.raises(ValueError, match="not numbers"):
        two_way_choice(*torch.full((3, 1, 2, 4), float("nan")))


def test_the_median_of_an_even_pool_is_the_mean_of_its_middle_two():
    assert median_rank(torch.tensor([1, 2, 3, 10])).item() == 2.5
    assert median_rank(torch.tensor([7, 1, 2])).item() == 2.0
