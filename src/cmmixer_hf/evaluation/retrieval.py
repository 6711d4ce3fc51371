"""Retrieval over a whole pool of clips (§4.4): embeddings → ranks of all queries → scores."""

from dataclasses import dataclass

import torch
from datasets import Dataset
from torch import Tensor

from ..data.prepared_clips import Row
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.modeling_cmmixer import CMMixerForRetrieval
from ..models.similarity import pool_segments
from ..settings import POOL_SIZE
from .inference import map_batches
from .intervals import bootstrap_interval
from .metrics import RETRIEVAL_METRICS, chance_metrics, rank_pool, two_way_choice
from .results import Score

DIRECTIONS = ("video_to_audio", "audio_to_video")
SIMILARITIES = ("segments", "pooled")


@dataclass(frozen=True)
class ClipEmbeddings:
    """Segment embeddings of clips, `video` and `audio`, each (clips, K, hidden), L2-normalised.

    `tracks` are the names of their music; `None` where every clip has its own.
    """

    video: Tensor
    audio: Tensor
    tracks: tuple[str, ...] | None = None
    clip_ids: tuple[str, ...] | None = None

    @property
    def track_numbers(self) -> Tensor:
        """(clips,) integers, equal where clips share a track.

        >>> segments = torch.ones(3, 1, 1)
        >>> ClipEmbeddings(segments, segments, tracks=("a", "b", "a")).track_numbers.tolist()
        [0, 1, 0]
        """
        if self.tracks is None:
            return torch.arange(len(self.video))
        numbers: dict[str, int] = {}
        return torch.tensor([numbers.setdefault(track, len(numbers)) for track in self.tracks])


@dataclass(frozen=True)
class Ranking:
    """Ranks of all queries, and their candidates.

    Args:
        places: for each of the [`DIRECTIONS`] the rank of each query, (queries,); those of two models on the same
            clips with the same seed are paired.
        positives: right candidates of each query, (queries,).
        pool_size: candidates of each query.
    """

    places: dict[str, Tensor]
    positives: Tensor
    pool_size: int

    def metrics(self, direction: str) -> dict[str, float]:
        """R@1, R@5, R@10 in percent and the median rank of one direction."""
        return {name: metric(self.places[direction]).item() for name, metric in RETRIEVAL_METRICS.items()}

    @property
    def chance(self) -> dict[str, float]:
        """The same of guessing."""
        return chance_metrics(self.pool_size, self.positives)


def embed_clips(
    model: CMMixerForRetrieval,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    *,
    batch_size: int = 32,
    progress: bool = True,
) -> ClipEmbeddings:
    """Embed both modalities of prepared clips, without augmentation; every process gets all of them."""

    def embed(stacks: dict[str, Tensor], rows: list[Row]) -> tuple[Tensor, Tensor, list[Row]]:
        video = model.get_video_features(stacks["pixel_values"])["segment_embeds"]
        audio = model.get_audio_features(stacks["audio_values"])["segment_embeds"]
        return video.float().cpu(), audio.float().cpu(), rows

    batches = map_batches(
        embed, model, clips, extractor, batch_size=batch_size, progress=progress, description="embedding"
    )
    video, audio, rows = zip(*batches, strict=True)
    facts = [row for batch in rows for row in batch]
    return ClipEmbeddings(
        torch.cat(video),
        torch.cat(audio),
        tracks=tuple(row["track_id"] or row["clip_id"] for row in facts),
        clip_ids=tuple(row["clip_id"] for row in facts),
    )


def draw_pools(clips: int, pool_size: int = POOL_SIZE, *, seed: int = 0) -> Tensor:
    """Places of the clips of each pool, (pools, clips a pool): all clips, or as many full pools as they fill.

    Pools share no clip, so that all of them together are more queries at the same chance; those that fill no further
    pool are left out at random.

    >>> draw_pools(3).tolist(), draw_pools(4500).shape
    ([[0, 1, 2]], torch.Size([2, 2000]))
    """
    if pool_size < 1 or clips < 1:
        raise ValueError(f"a pool needs at least one clip, got {clips} clips and a pool of {pool_size}")
    if clips <= pool_size:
        return torch.arange(clips)[None]
    order = torch.randperm(clips, generator=torch.Generator().manual_seed(seed))
    return order[: clips // pool_size * pool_size].view(-1, pool_size)


def rank_clips(
    embeddings: ClipEmbeddings,
    *,
    pool_size: int = POOL_SIZE,
    similarity: str = "segments",
    by_track: bool = False,
    seed: int = 0,
) -> Ranking:
    """Ask for each clip's sound with its picture, and the other way round.

    Args:
        embeddings: of a whole set; the ranking is done where they lie.
        pool_size: candidates of a query; a larger set is divided by [`draw_pools`], a smaller one is one pool.
        similarity: `"segments"`, which Eq. 2 trains, or `"pooled"`, one vector a clip.
        by_track: any clip with the same track is right, not only the query's own; the best of them counts, and the
            others are not counted as wrong.
        seed: of this division.
    """
    if similarity not in SIMILARITIES:
        raise ValueError(f"similarity must be one of {SIMILARITIES}, got {similarity!r}")
    video, audio = embeddings.video, embeddings.audio
    if similarity == "pooled":
        video, audio = pool_segments(video), pool_segments(audio)
    groups = embeddings.track_numbers if by_track else torch.arange(len(video))
    groups = groups.to(video.device)
    places: dict[str, list[Tensor]] = {direction: [] for direction in DIRECTIONS}
    positives = []
    for pool in draw_pools(len(video), pool_size, seed=seed).to(video.device):
        places["video_to_audio"].append(rank_pool(video[pool], audio[pool], groups[pool]))
        places["audio_to_video"].append(rank_pool(audio[pool], video[pool], groups[pool]))
        _, track, counts = groups[pool].unique(return_inverse=True, return_counts=True)
        positives.append(counts[track])
    joined = {direction: torch.cat(parts).cpu() for direction, parts in places.items()}
    return Ranking(joined, torch.cat(positives).cpu(), pool_size=len(pool))


def evaluate_retrieval(embeddings: ClipEmbeddings) -> dict[str, dict[str, float]]:
    """R@1/5/10 and median rank by segment similarity, both directions, one right candidate a query, chance beside it.

    >>> segments = torch.nn.functional.normalize(torch.randn(20, 8, 64), dim=-1)
    >>> evaluate_retrieval(ClipEmbeddings(segments, segments))["video_to_audio"]["R@1"]
    100.0
    """
    ranking = rank_clips(embeddings)
    return {direction: ranking.metrics(direction) for direction in DIRECTIONS} | {"chance": ranking.chance}


def score_retrieval(
    embeddings: ClipEmbeddings,
    *,
    pool_size: int = POOL_SIZE,
    similarity: str = "segments",
    resamples: int = 1000,
    seed: int = 0,
) -> list[Score]:
    """The same with 95 % intervals over the queries, and by track too where clips share one."""
    tracks = embeddings.track_numbers
    kinds = ("strict", "track") if len(tracks.unique()) < len(tracks) else ("strict",)
    scores = []
    for kind in kinds:
        ranking = rank_clips(
            embeddings, pool_size=pool_size, similarity=similarity, by_track=kind == "track", seed=seed
        )
        for direction in DIRECTIONS:
            scores += _scores(ranking, direction, kind, resamples=resamples, seed=seed)
    return scores


def score_twins(queries: Tensor, right: Tensor, wrong: Tensor, *, resamples: int = 1000, seed: int = 0) -> Score:
    """Two-way choice between a clip and its twin that differs in one thing, in percent; chance is 50.

    Args:
        queries, right, wrong: segment embeddings paired by position, (N, K, hidden), as in [`two_way_choice`].
        resamples, seed: of the 95 % interval.
    """
    choices = 100 * two_way_choice(queries, right, wrong).double().cpu()
    interval = bootstrap_interval(torch.mean, choices, resamples=resamples, seed=seed)
    return Score("two_way_accuracy", choices.mean().item(), interval=interval, chance=50.0)


def _scores(ranking: Ranking, direction: str, kind: str, *, resamples: int, seed: int) -> list[Score]:
    place, chance = ranking.places[direction], ranking.chance
    return [
        Score(
            name,
            metric(place).item(),
            interval=bootstrap_interval(metric, place, resamples=resamples, seed=seed),
            chance=chance[name],
            direction=direction,
            positives=kind,
        )
        for name, metric in RETRIEVAL_METRICS.items()
    ]
