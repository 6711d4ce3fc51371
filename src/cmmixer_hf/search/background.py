"""What a score means: how far it lies above the scores of meaningless background queries on the same index.

Cosines of a model have a level of their own: on the released one a black picture reaches 0.6 and a match 0.8, and any
film against any music has a diagonal, for segments encode their position in the clip. What counts is the similarity of
a query q and an item x after subtracting the mean background query b and the mean item m:

    beyond(q, x) = cos(q − b, x − m), segment by segment, not normalised = s(q, x) − s(b, x) − s(q, m) + s(b, m)

Background queries are plain colours and noise, noise and tones, and sentences on everything but music.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ..files import atomic_file
from .embedders.embedder import MODALITIES, Embedder
from .index_rows import row_segments

BACKGROUND = "background.safetensors"
FEWEST_FILES = 10  # fewer give no meaningful mean item
SEED = 0
SAMPLED_FILES = 500  # of an index, for its mean item
SENTENCES = (
    *("the quarterly report is due on Friday", "a recipe for tomato soup", "how to renew a passport", "x"),
    *("lorem ipsum dolor sit amet", "the train to the airport leaves at noon", "error 404"),
    *("a list of prime numbers", "the capital of Mongolia", "a screw that fits no thread"),
    *("terms and conditions apply", "7 3 9 1"),
)


@dataclass(frozen=True)
class Background:
    """Statistics of meaningless background queries on an index.

    Args:
        item: the mean of the items, (K, size).
        queries: the mean of the background queries of each kind, `"video"`, `"audio"` or `"text"`, (K, size).
        tops: mean and standard deviation, (2,), of the best score that each of them finds.
    """

    item: Tensor
    queries: Mapping[str, Tensor]
    tops: Mapping[str, Tensor]

    def beyond(self, query: Tensor, segments: Tensor, kind: str) -> Tensor:
        """Similarity of each segment of a query with each of an item beyond the mean at these positions, (K, K)."""
        return (query - self.queries[kind]) @ (segments - self.item).T

    def standing(self, beyond: Tensor, kind: str) -> float:
        """How far a match lies above the best matches of background queries, in standard deviations."""
        mean, deviation = self.tops[kind]
        return ((beyond.diagonal().mean() - mean) / deviation.clamp(min=1e-6)).item()

    def save(self, folder: Path) -> None:
        """Write it beside an index."""
        tensors = {"item": self.item}
        tensors |= {f"query.{kind}": query.contiguous() for kind, query in self.queries.items()}
        tensors |= {f"top.{kind}": top for kind, top in self.tops.items()}
        with atomic_file(folder / BACKGROUND) as partial:
            partial.write_bytes(save(tensors))  # `save_file` keeps it from other users

    @classmethod
    def load(cls, folder: Path) -> "Background | None":
        """What [`save`] wrote; `None` where there is nothing that can be read."""
        try:
            tensors = load_file(folder / BACKGROUND)
        except (OSError, SafetensorError):
            return None
        parts = {
            name: {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            for name in ("query", "top")
        }
        return cls(tensors["item"], parts["query"], parts["top"])


def background_queries(embedder: Embedder) -> dict[str, Tensor]:
    """Meaningless queries of each kind that the model embeds, (queries, K, size)."""
    made = {"video": _pictures, "audio": _sounds}
    queries: dict[str, Tensor] = {}
    for kind in embedder.modalities:
        if kind in MODALITIES:
            clips = made[kind](embedder)
            queries[kind] = torch.cat([embedder.embed_batch([clip], kind, is_query=True) for clip in clips])
        else:
            target = next(modality for modality in embedder.modalities if modality in MODALITIES)
            queries[kind] = embedder.embed_text(SENTENCES, target)
    return queries


def mean_item(rows: pa.Table, num_segments: int) -> Tensor:
    """The mean of the segments of rows, (K, size)."""
    return row_segments(rows, num_segments).mean(0)


def _pictures(embedder: Embedder) -> list[np.ndarray]:
    """Black, white, greys, plain colours, and noise of several grains that stands still or flickers."""
    sampling, rng = embedder.sampling("video"), np.random.default_rng(SEED)
    side, frames = sampling.shorter_side or 224, sampling.num_frames
    colours = [np.full(3, value) for value in (0, 85, 170, 255)] + list(rng.integers(0, 256, (4, 3)))
    pictures = [np.broadcast_to(colour, (1, side, side, 3)) for colour in colours]
    for grain in (1, 8):
        cells = -(-side // grain)
        for count in (1, frames):
            noise = rng.integers(0, 256, (count, cells, cells, 3)).repeat(grain, 1).repeat(grain, 2)
            pictures.append(noise[:, :side, :side])
    return [np.ascontiguousarray(np.broadcast_to(one, (frames, side, side, 3)), np.uint8) for one in pictures]


def _sounds(embedder: Embedder) -> list[np.ndarray]:
    """White and brown noise, loud and faint, tones, and clicks."""
    sampling, rng = embedder.sampling("audio"), np.random.default_rng(SEED)
    shape = sampling.num_frames, round(sampling.window_seconds * sampling.sampling_rate)
    noise = [rng.standard_normal(shape) for _ in range(4)]
    brown = [np.cumsum(one, 1) / len(one[0]) ** 0.5 for one in noise[2:]]
    seconds = np.arange(shape[1]) / sampling.sampling_rate
    tones = [np.broadcast_to(np.sin(2 * np.pi * pitch * seconds), shape) for pitch in (110, 440, 1760, 5000)]
    clicks = np.broadcast_to(np.arange(shape[1]) % (sampling.sampling_rate // 2) < 5, shape)
    sounds = [0.2 * noise[0], 0.01 * noise[1], *(0.2 * one for one in brown), *(0.2 * one for one in tones), clicks]
    return [np.clip(one, -1, 1).astype(np.float32) for one in sounds]
