"""Hard negatives: pictures that differ from a clip's own in exactly one of the factors that bind it to its sound.

Whether a model prefers the clip to its twin for the clip's sound, a choice with chance 50 %, says whether it has
understood that factor.

>>> scene = make_scene(1, difficulty=1.0)
>>> times = np.float32([1.5, 4.5, 7.5, 10.5])
>>> twin = render_twin(scene, "identity", times, size=32, rng=np.random.default_rng(0))
>>> twin.shape, bool((twin != render_frames(scene, times=times, size=32)).any())
((4, 32, 32, 3), True)
"""

import csv
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cmmixer_hf.demo import IDENTITIES, Floats, Part, Pixels, Scene, World, clip_row, render_frames
from cmmixer_hf.media import Sampling, read_clip

SWAY_STEP = 1.3  # Hz by which the motion of a twin is faster or slower


def render_twin(scene: Scene, kind: str, times: Floats, *, size: int, rng: np.random.Generator) -> Pixels:
    """The picture of a twin at `times` (K,) s: (K, size, size, 3) RGB.

    Args:
        scene: what the sound is of; `binding` needs one with two sounding objects.
        kind: `time`, the clip's own frames in another order; `binding`, two objects have exchanged their shapes;
            `identity`, one object has a shape that does not sound; `height`, high and low are exchanged; `motion`,
            objects sway at another rate.
        times: instants of the frames.
        size: of the picture in pixels.
        rng: draws the order, the object and its shape.

    Raises:
        ValueError: `kind` is none of those, or the scene has too few objects or `times` too few instants for it.
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
    if len(parts) < 2:
        raise ValueError(
            "a twin in binding needs two sounding objects: raise the difficulty, which is their probability"
        )
    turned = (*parts[1:], parts[0])
    return tuple(replace(part, identity=other.identity) for part, other in zip(parts, turned, strict=True))


def _replace_identity(parts: tuple[Part, ...], rng: np.random.Generator) -> tuple[Part, ...]:
    absent = [name for name in IDENTITIES if name not in {part.identity for part in parts}]
    place = int(rng.integers(len(parts)))
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
# ESC-10's classes of short sounds that are told apart by their timbre, in the order of IDENTITIES.
ESC10_CLASSES = ("Rooster", "Dog bark", "Clock tick", "Chainsaw", "Baby cry", "Person sneeze")


def twin_rows(world: World, kind: str, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """The clips' twins of one kind ([`render_twin`]): rows with other frames and no sound."""
    for index in indices:
        rng = np.random.default_rng((world.seed, index, len(kind)))
        yield clip_row(world, index, render_twin(world.scene(index), kind, world.times, size=world.size, rng=rng))


def read_esc10(folder: str | os.PathLike[str], folds: Sequence[int], *, sampling_rate: int) -> dict[str, list[Floats]]:
    """ESC-10's recordings of some folds as timbres: for each identity the waveforms of one class, from their onset on.

    `folder` holds `manifest.csv` with `file`, `label` and `fold`. Raises ValueError where a class has no recording.
    """
    with open(Path(folder) / "manifest.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["fold"]) in folds]
    whole = Sampling(num_frames=1, window_seconds=5.0, sampling_rate=sampling_rate)
    recordings: dict[str, list[Floats]] = {}
    for identity, label in zip(IDENTITIES, ESC10_CLASSES, strict=True):
        paths = [Path(folder) / row["file"] for row in rows if row["label"] == label]
        if not paths:
            raise ValueError(f"{folder} has no recording of {label!r} in folds {list(folds)}: choose others")
        clips = [read_clip(path, whole, video=False) for path in paths]
        recordings[identity] = [_from_onset(clip.waveforms[0]) for clip in clips if clip.waveforms is not None]
    return recordings


def _from_onset(waveform: Floats) -> Floats:
    """A waveform without what comes before its loudest tenth of a second has begun."""
    loud = np.abs(waveform) > 0.5 * np.abs(waveform).max()
    return waveform[max(0, int(loud.argmax()) - 160) :]
