"""Retrieval over a pool: embeddings, ranks, scores."""

import pytest
import torch
from datasets import Dataset
from torch import nn

from cmmixer_hf import CMMixerForRetrieval
from cmmixer_hf.data.batches import collate_clips
from cmmixer_hf.data.preparation import prepare_clip
from cmmixer_hf.evaluation.retrieval import (
    DIRECTIONS,
    ClipEmbeddings,
    draw_pools,
    embed_clips,
    evaluate_retrieval,
    rank_clips,
    score_retrieval,
    score_twins,
)

GENERATOR = torch.Generator()


@pytest.fixture(autouse=True)
def _the_same_numbers_for_each_test():
    GENERATOR.manual_seed(0)


def noise(clips: int, *, segments: int = 2, dim: int = 32) -> torch.Tensor:
    return nn.functional.normalize(torch.randn(clips, segments, dim, generator=GENERATOR), dim=-1)


def related(clips: int, *, distance: float = 4.0, tracks: tuple[str, ...] | None = None) -> ClipEmbeddings:
    """Pairs that are more alike than others, but not always the most alike."""
    video = noise(clips)
    return ClipEmbeddings(video, nn.functional.normalize(video + distance * noise(clips), dim=-1), tracks)


@pytest.fixture
def clips(clip_files, sampling):
    return Dataset.from_list([prepare_clip(file, sampling) for file in clip_files])


def test_batches_do_not_change_embeddings(clips, extractor, tiny_config):
    model = CMMixerForRetrieval(tiny_config)
    whole, parts = (embed_clips(model, clips, extractor, batch_size=size, progress=False) for size in (6, 4))
    torch.testing.assert_close(whole.video, parts.video)
    torch.testing.assert_close(whole.audio, parts.audio)
    stacks = extractor(videos=collate_clips([clips[3]])["frames"])
    torch.testing.assert_close(model.eval().get_video_features(**stacks).segment_embeds[0], whole.video[3])
    assert whole.video.shape == (6, 2, 32)


def test_tracks_and_names_come_from_the_rows(clips, extractor, tiny_config):
    rows = [row | {"track_id": track} for row, track in zip(clips, ["a", "b", "a", "c", "b", "d"], strict=True)]
    embeddings = embed_clips(CMMixerForRetrieval(tiny_config), Dataset.from_list(rows), extractor, progress=False)
    assert embeddings.clip_ids == tuple(clips["clip_id"])
    assert embeddings.track_numbers.tolist() == [0, 1, 0, 2, 1, 3]


def test_half_precision_models_are_ranked_in_single(clips, extractor, tiny_config):
    embeddings = embed_clips(CMMixerForRetrieval(tiny_config).bfloat16(), clips, extractor, progress=False)
    assert embeddings.video.dtype == embeddings.audio.dtype == torch.float32


def test_scores_of_noise_are_those_of_chance():
    scores = evaluate_retrieval(ClipEmbeddings(noise(400), noise(400)))
    assert scores["chance"]["R@10"] == 2.5
    for direction in ("video_to_audio", "audio_to_video"):
        assert abs(scores[direction]["R@10"] - 2.5) < 4 * 100 * (0.025 * 0.975 / 400) ** 0.5
        assert abs(scores[direction]["median_rank"] - 200.5) < 40


def test_one_embedding_for_all_scores_chance_not_perfection():
    same = nn.functional.normalize(torch.ones(100, 2, 8), dim=-1)
    scores = evaluate_retrieval(ClipEmbeddings(same, same))
    assert scores["video_to_audio"] == {"R@1": 0.0, "R@5": 0.0, "R@10": 0.0, "median_rank": 50.5}


def test_swapping_the_modalities_swaps_the_directions():
    embeddings = related(60)
    swapped = rank_clips(ClipEmbeddings(embeddings.audio, embeddings.video))
    ranking = rank_clips(embeddings)
    for direction, other in zip(DIRECTIONS, reversed(DIRECTIONS), strict=True):
        assert torch.equal(ranking.places[direction], swapped.places[other])


def test_the_order_of_the_clips_changes_no_rank():
    embeddings, order = related(60), torch.randperm(60, generator=GENERATOR)
    moved = ClipEmbeddings(embeddings.video[order], embeddings.audio[order])
    for direction, places in rank_clips(embeddings).places.items():
        assert torch.equal(rank_clips(moved).places[direction], places[order])


def test_pools_are_disjoint_full_and_drawn_by_the_seed():
    pools = draw_pools(107, 25, seed=3)
    assert pools.shape == (4, 25)
    assert len(pools.unique()) == 100
    assert torch.equal(pools, draw_pools(107, 25, seed=3))
    assert not torch.equal(pools, draw_pools(107, 25, seed=4))
    assert draw_pools(107, 107).tolist() == [list(range(107))]
    with pytest.raises(ValueError, match="got 5 clips and a pool of 0"):
        draw_pools(5, 0)


def test_smaller_pools_are_easier_and_each_query_is_among_its_own():
    embeddings = related(120)
    whole, parts = rank_clips(embeddings), rank_clips(embeddings, pool_size=30)
    assert parts.pool_size == 30
    assert len(parts.places["video_to_audio"]) == 120
    order = draw_pools(120, 30).flatten()
    assert (parts.places["video_to_audio"] <= whole.places["video_to_audio"][order]).all()
    assert parts.chance["R@1"] == pytest.approx(100 / 30)


def test_any_clip_with_the_same_track_is_right_by_track():
    tracks = tuple(str(number // 3) for number in range(60))
    embeddings = related(60, tracks=tracks)
    strict, by_track = rank_clips(embeddings), rank_clips(embeddings, by_track=True)
    assert by_track.positives.unique().tolist() == [3]
    assert (by_track.places["audio_to_video"] <= strict.places["audio_to_video"]).all()
    assert by_track.chance["R@1"] == pytest.approx(3 * strict.chance["R@1"])
    # One song in three clips: its own clip is no better than the others strictly, but perfect by track.
    songs = noise(20).repeat_interleave(3, dim=0)
    same = ClipEmbeddings(songs, songs, tracks)
    assert rank_clips(same).metrics("video_to_audio")["median_rank"] == 2
    assert rank_clips(same, by_track=True).metrics("video_to_audio")["R@1"] == 100


def test_pooled_similarity_is_blind_to_time_and_segments_are_not():
    video = noise(40, segments=4)
    shuffled = ClipEmbeddings(video, video.roll(1, dims=1))
    assert rank_clips(shuffled, similarity="pooled").metrics("video_to_audio")["R@1"] == 100
    assert rank_clips(shuffled).metrics("video_to_audio")["R@1"] < 20
    with pytest.raises(ValueError, match="similarity must be one of"):
        rank_clips(shuffled, similarity="cosine")


def test_every_score_has_its_interval_and_chance():
    scores = score_retrieval(related(200), resamples=200)
    assert {(score.metric, score.direction) for score in scores} == {
        (metric, direction) for metric in ("R@1", "R@5", "R@10", "median_rank") for direction in DIRECTIONS
    }
    assert {score.positives for score in scores} == {"strict"}  # no clip shares a track
    values = evaluate_retrieval(related(200))
    assert values["chance"] == {score.metric: score.chance for score in scores[:4]}
    for score in scores:
        assert score.interval[0] <= score.value <= score.interval[1]


def test_shared_tracks_are_scored_both_ways_and_a_seed_gives_the_same():
    embeddings = related(40, tracks=tuple(str(number // 2) for number in range(40)))
    scores = score_retrieval(embeddings, resamples=50)
    assert [score.positives for score in scores] == ["strict"] * 8 + ["track"] * 8
    assert score_retrieval(embeddings, resamples=50) == scores
    assert score_retrieval(embeddings, resamples=50, seed=1) != scores


def test_twins_are_a_choice_of_two():
    video = noise(300, segments=4)
    shuffled = score_twins(video, video, video.roll(1, dims=1), resamples=100)
    assert (shuffled.value, shuffled.interval, shuffled.chance) == (100, (100, 100), 50)
    blind = score_twins(video, *noise(600, segments=4).split(300), resamples=100)
    assert blind.interval[0] < 50 < blind.interval[1]
