"""Hard negatives: pictures that differ from a clip's own in exactly one of the factors that bind it to its sound.

Whether a model prefers the clip to its twin for the clip's sound, a choice with chance 50 %, shows whether it has
learned that factor.

>>> world = World(seed=1)
>>> twin = render_twin(world.scene(0), "identity", world.times, size=32, rng=np.random.default_rng(0))
>>> twin.shape, bool((twin != render_frames(world.scene(0), times=world.times, size=32)).any())
((4, 32, 32, 3), True)
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..evaluation.inference import evaluating
from ..evaluation.results import Score
from ..evaluation.retrieval import embed_clips, score_twins
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .rendering import Pixels, render_frames
from .scenes import FALLING, RISING, Floats, Part, Scene
from .world import World, make_row

SWAY_STEP = 1.3  # Hz by which the motion of a twin is faster or slower


def render_twin(scene: Scene, kind: str, times: Floats, *, size: int, rng: np.random.Generator) -> Pixels:
    """The picture of a twin at `times` (K,) s: (K, size, size, 3) RGB.

    Args:
        scene: of the clip, whose sound stays the same.
        kind: `time`, the clip's own frames in another order; `binding`, the two objects have exchanged their tunes;
            `identity`, one object has a shape that does not sound but moves the same way; `height`, high and low
            are exchanged; `motion`, objects sway at another rate.
        times: instants of the frames.
        size: of the picture in pixels.
        rng: draws the order, the object and its shape.

    Raises:
        ValueError: `kind` is none of those, or `times` has too few instants for it.
    """
    if kind == "time":
        return render_frames(scene, times=times, size=size)[_derangement(len(times), rng)]
    if kind not in CHANGES:
        raise ValueError(f"kind must be one of {', '.join(TWINS)}, got {kind!r}")
    return render_frames(replace(scene, parts=CHANGES[kind](scene.parts, rng)), times=times, size=size)


def _derangement(count: int, rng: np.random.Generator) -> np.ndarray:
    """An order in which nothing stays in its place."""
    if count < 2:
        raise ValueError(f"a twin in time needs at least 2 instants, got {count}")
    order = rng.permutation(count)
    while (order == np.arange(count)).any():
        order = rng.permutation(count)
    return order


def _exchange_identities(parts: tuple[Part, ...], rng: np.random.Generator) -> tuple[Part, ...]:
    turned = (*parts[1:], parts[0])
    return tuple(replace(part, identity=other.identity) for part, other in zip(parts, turned, strict=True))


def _replace_identity(parts: tuple[Part, ...], rng: np.random.Generator) -> tuple[Part, ...]:
    place = int(rng.integers(len(parts)))
    kindred = RISING if parts[place].identity in RISING else FALLING
    absent = [name for name in kindred if name != parts[place].identity]
    changed = replace(parts[place], identity=str(rng.choice(absent)))
    return (*parts[:place], changed, *parts[place + 1 :])


def _mirror_heights(parts: tuple[Part, ...], rng: np.random.Generator) -> tuple[Part, ...]:
    return tuple(replace(part, heights=1 - part.heights) for part in parts)


def _change_motion(parts: tuple[Part, ...], rng: np.random.Generator) -> tuple[Part, ...]:
    return tuple(replace(part, sway_rate=part.sway_rate + SWAY_STEP * rng.choice([-1, 1])) for part in parts)


CHANGES: dict[str, Callable[[tuple[Part, ...], np.random.Generator], tuple[Part, ...]]] = {
    "binding": _exchange_identities,
    "identity": _replace_identity,
    "height": _mirror_heights,
    "motion": _change_motion,
}
TWINS = ("time", *CHANGES)


def score_understanding(
    model: Any, world: World, indices: Sequence[int], extractor: CMMixerFeatureExtractor
) -> dict[str, Score]:
    """How often a sound prefers its clip to the clip's twin, in percent with a 95 % interval, for each kind of twin.

    Args:
        model: a retriever.
        world: of clips that it has not seen; pictures and sound are rendered, no file is read.
        indices: which of its clips.
        extractor: makes the stacks.
    """
    own = embed_clips(model, [make_row(world, index) for index in indices], extractor, progress=False)
    scores = {}
    for number, kind in enumerate(TWINS):
        pictures = []
        for index in indices:
            rng = np.random.default_rng((world.seed, index, number))
            pictures.append(render_twin(world.scene(index), kind, world.times, size=world.size, rng=rng))
        scores[kind] = score_twins(own.audio, own.video, _embed_pictures(model, pictures, extractor))
    return scores


def _embed_pictures(model: Any, pictures: Sequence[Pixels], extractor: CMMixerFeatureExtractor) -> Tensor:
    """Segment embeddings of pictures without sound, (clips, K, hidden)."""
    embeds = []
    with evaluating(model):
        for start in range(0, len(pictures), 64):
            stacks = extractor(videos=list(pictures[start : start + 64]))["pixel_values"].to(model.device)
            embeds.append(model.get_video_features(stacks)["segment_embeds"].float().cpu())
    return torch.cat(embeds)
