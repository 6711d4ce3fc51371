"""Do bent queries (§5.2) do what they say? python benchmarks/flexible_queries.py demo/seed-0

After `make demo`: new clips of the demo's world, whose hidden factors are known, are searched by their pictures among
their sounds. To each query the sound of a clip is added that has a factor which the query lacks, and the share of
results with that factor among the ten best is told before and after; then the sound of another clip with the query's
own factor is subtracted. The borrowed sound itself is out of the race. Two kinds of rows are controls: an added sound
that lacks the factor, and a factor that is heard but never seen. Five minutes on two cores.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmmixer_hf.demo import IDENTITIES, Scene, make_scene, write_library
from cmmixer_hf.models import combine_queries, segment_similarity
from cmmixer_hf.search import Cutting, LibraryFile, embed_files, open_embedder

BEST, RESAMPLES = 10, 10_000
SEED = 20_000  # of the clips; far from those that a demo is trained on


def notes_per_second(scene: Scene) -> float:
    """How busy the tune is."""
    return len(scene.parts[0].starts) / scene.duration


def mean_height(scene: Scene) -> float:
    """How high the tune is on the whole, in picture and pitch."""
    part = scene.parts[0]
    return float(np.average(part.heights, weights=part.stops - part.starts))


# Factors that picture and sound share, and one that is heard alone.
FACTORS: dict[str, Callable[[Scene], float]] = {
    "timbre (six kinds)": lambda scene: IDENTITIES.index(scene.parts[0].identity),
    "pitch (thirds)": mean_height,
    "vibrato (thirds)": lambda scene: scene.parts[0].sway,
    "notes a second (thirds)": notes_per_second,
    "control: drums (thirds), heard but never seen": lambda scene: scene.backing.hits_level,
}


@dataclass(frozen=True)
class Effect:
    """Shares of results with a factor among the best, a number a query: before and after a sound was mixed in."""

    before: np.ndarray
    after: np.ndarray

    def row(self, generator: np.random.Generator) -> dict[str, float]:
        """Means, the difference with a 95 % interval over queries, and how many queries moved which way; in percent."""
        change = self.after - self.before
        draws = generator.integers(len(change), size=(RESAMPLES, len(change)))
        low, high = np.quantile(change[draws].mean(1), [0.025, 0.975])
        values = (
            self.before.mean(),
            self.after.mean(),
            change.mean(),
            low,
            high,
            (change > 0).mean(),
            (change < 0).mean(),
        )
        names = ("before", "after", "change", "low", "high", "up", "down")
        return {name: 100 * float(value) for name, value in zip(names, values, strict=True)}


def levels(values: np.ndarray) -> np.ndarray:
    """Kinds stay, other values become their third: 0, 1 or 2."""
    kinds = np.unique(values)
    return (
        np.searchsorted(kinds, values)
        if len(kinds) <= len(IDENTITIES)
        else 3 * values.argsort().argsort() // len(values)
    )


def share(query: Tensor, sounds: Tensor, wanted: np.ndarray, without: int) -> float:
    """The share of the best sounds that are wanted, where one sound is out of the race."""
    scores = segment_similarity(query[None], sounds)[0]
    scores[without] = -torch.inf
    return float(wanted[scores.topk(BEST).indices.numpy()].mean())


def measure(videos: Tensor, sounds: Tensor, level: np.ndarray, generator: np.random.Generator) -> dict[str, Effect]:
    """What adding, adding without the factor (a control) and subtracting do to the share of a factor.

    Args:
        videos, sounds: segment embeddings of the same clips, (clips, K, size).
        level: of the factor, (clips,) integers.
        generator: draws a factor and a borrowed sound for each query.
    """
    shares: dict[str, list[tuple[float, float]]] = {"added": [], "added, without it": [], "subtracted": []}
    for query, own in enumerate(level):
        other = generator.choice(np.unique(level[level != own]))
        third = generator.choice(np.flatnonzero(level != other))
        for name, wanted, borrowed in (
            ("added", other, generator.choice(np.flatnonzero(level == other))),
            ("added, without it", other, third),
            ("subtracted", own, generator.choice(np.setdiff1d(np.flatnonzero(level == own), [query]))),
        ):
            parts = {"minus" if name == "subtracted" else "plus": [sounds[borrowed]]}
            bent = combine_queries(videos[query], **parts)
            pair = tuple(share(asked, sounds, level == wanted, borrowed) for asked in (videos[query], bent))
            shares[name].append(pair)
    return {name: Effect(*np.array(pairs).T) for name, pairs in shares.items()}


def embed(folder: Path, clips: int, model: str) -> tuple[Tensor, Tensor, list[Scene]]:
    """Make clips, and embed their pictures and their sounds."""
    files = [LibraryFile(str(path)) for path in write_library(folder, clips, seed=SEED)]
    embedder = open_embedder(model)
    videos, sounds = (
        torch.stack([file.embeds[0] for file in embed_files(files, embedder, Cutting(modality))])
        for modality in ("video", "audio")
    )
    scenes = [make_scene(np.random.SeedSequence(SEED, spawn_key=(number,))) for number in range(clips)]
    return videos, sounds, scenes


def table(rows: list[dict]) -> list[str]:
    """In Markdown."""
    lines = [
        "| factor | sound of a clip with it | share before | after | change (95 % interval) | queries up | down |",
        "|---|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {row['factor']} | {row['what']} | {row['before']:.1f} | {row['after']:.1f} "
        f"| {row['change']:+.1f} ({row['low']:+.1f} to {row['high']:+.1f}) | {row['up']:.0f} % | {row['down']:.0f} % |"
        for row in rows
    ]


def main() -> None:
    """Measure, write benchmarks/results/flexible_queries.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of a demo that has run")
    parser.add_argument("--clips", type=int, default=512)
    parser.add_argument("--library", type=Path, help="folder for the clips; in the demo's by default")
    results = Path(__file__).with_name("results") / "flexible_queries.json"
    parser.add_argument("--results", type=Path, default=results)
    settings = parser.parse_args()
    folder = settings.library or settings.demo / "flexible_queries"
    videos, sounds, scenes = embed(folder, settings.clips, str(settings.demo / "retrieval"))
    rows = []
    for factor, value in FACTORS.items():
        level = levels(np.array([value(scene) for scene in scenes]))
        for what, effect in measure(videos, sounds, level, np.random.default_rng(0)).items():
            rows.append({"factor": factor, "what": what, **effect.row(np.random.default_rng(0))})
    settings.results.write_text(json.dumps({"clips": settings.clips, "rows": rows}, indent=1))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
