"""Fig. 6: a clip's picture asks for sounds, alone, plus the sound of one clip and minus the sound of another.

[`bending_effects`] measures over many clips whether it holds in general.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from ..data.batches import Clips, StackMaker, collate_clips
from ..evaluation.retrieval import ClipEmbeddings
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.similarity import combine_queries, segment_similarity
from .figures import Card, draw_results
from .strips import RGB, frames_to_rgb, spectrograms_to_rgb

COUNTED, SHOWN, INSTANTS = 10, 4, 2  # results that are counted by class, results in the picture, and segments of each


@dataclass(frozen=True)
class BentQuery:
    """A query and its results.

    Args:
        sign: `""`, `"plus"` or `"minus"`.
        lent: number of the clip whose sound is mixed in; of the asking clip, where there is none.
        found: numbers of the best clips, best first.
        counts: how many of them are of each class of interest.
    """

    sign: str
    lent: int
    found: tuple[int, ...]
    counts: Mapping[str, int]

    def share(self, name: str) -> float:
        """How much of what it finds is of a class, in percent."""
        return 100 * self.counts[name] / len(self.found)


def bend_query(embeddings: ClipEmbeddings, classes: Sequence[str], query: int) -> list[BentQuery]:
    """Ask alone, plus the sound of the next clip of another class, and minus that of the next one of the same class.

    These three clips themselves are left out of the results.

    Raises:
        ValueError: no other clip is of its class, or all are, or there are too few.
    """
    places = [(query + step) % len(classes) for step in range(1, len(classes))]
    like = next((place for place in places if classes[place] == classes[query]), query)
    other = next((place for place in places if classes[place] != classes[query]), query)
    if query in (like, other) or len(classes) < COUNTED + 3:
        raise ValueError(
            f"clip {query} of {len(classes)} clips needs another of its class and one of another, "
            f"and {COUNTED} to find: give more clips, or another one's number"
        )
    queries = []
    for sign, lent in (("", query), ("plus", other), ("minus", like)):
        borrowed = {sign: [embeddings.audio[lent]]} if sign else {}
        scores = segment_similarity(combine_queries(embeddings.video[query], **borrowed)[None], embeddings.audio)[0]
        scores[[query, like, other]] = -torch.inf
        best = tuple(scores.topk(COUNTED).indices.tolist())
        names = [classes[place] for place in best]
        counts = {name: names.count(name) for name in (classes[query], classes[other])}
        queries.append(BentQuery(sign, lent, best, counts))
    return queries


def bending_effects(asked: Sequence[Sequence[BentQuery]], classes: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Of many clips' [`bend_query`], the mean share of the lent sound's class before and after it is mixed in."""
    effects = {}
    for sign in ("plus", "minus"):
        pairs = [
            (queries[0].share(classes[bent.lent]), bent.share(classes[bent.lent]))
            for queries in asked
            for bent in queries
            if bent.sign == sign
        ]
        before, after = torch.tensor(pairs).mean(0).tolist()
        effects[sign] = (before, after)
    return effects


def draw_bent_queries(
    queries: Sequence[BentQuery], clips: Clips, classes: Sequence[str], extractor: CMMixerFeatureExtractor
) -> RGB:
    """A row for each query: what is added to it, and the best sounds above which are the frames they belong to."""
    rows = []
    for query in queries:
        name, counts = classes[query.lent], ", ".join(f"{count} {name}" for name, count in query.counts.items())
        asked = f"{query.sign.capitalize()} the sound of a {name}" if query.sign else f"The picture of a {name}"
        frames, sounds = _pictures(clips, query.lent, extractor)
        shown = sounds if query.sign else frames
        cards = [Card(shown[:INSTANTS], shown[-INSTANTS:], "asks" if not query.sign else query.sign)]
        for rank, place in enumerate(query.found[:SHOWN], 1):
            above, below = (images[:INSTANTS] for images in _pictures(clips, place, extractor))
            cards.append(Card(above, below, f"{rank}. {classes[place]}", marked=classes[place] == name))
        rows.append((f"{asked}: of the {COUNTED} best sounds, {counts}", cards))
    return draw_results(rows)


def _pictures(clips: Clips, place: int, extractor: CMMixerFeatureExtractor) -> tuple[RGB, RGB]:
    """A clip's frames and spectrograms, (K, H, W, 3) each."""
    stacks = StackMaker(extractor)(collate_clips([clips[place]]))
    frames, sounds = stacks["pixel_values"][0], stacks["audio_values"][0]
    return frames_to_rgb(frames, extractor), spectrograms_to_rgb(sounds, extractor)
