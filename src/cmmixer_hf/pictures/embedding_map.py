"""Whether embeddings of one kind cluster: a t-SNE picture (Fig. 5), and a number, for such pictures mislead."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .strips import RGB

NEIGHBOURS = 5
COLOURS = 10  # of the map, and the most kinds that a legend names
SIDE, DOTS_PER_INCH = 4.5, 100


@dataclass(frozen=True)
class Purity:
    """Share of a point's nearest neighbours that are of its kind, in percent, and the same of all other points."""

    value: float
    chance: float


@dataclass(frozen=True)
class EmbeddingMap:
    """Points on a plane, (N, 2), and the name of each one's kind, under a title."""

    title: str
    points: npt.NDArray[np.float32]
    kinds: tuple[str, ...]


def centre_places(segment_embeds: Tensor) -> Tensor:
    """Segments (clips, K, size) minus the mean over clips at each position, L2-normalised again.

    Positions alone distinguish segments, even with random weights; Eq. 2 takes a clip's other segments as negatives.
    """
    return nn.functional.normalize(segment_embeds - segment_embeds.mean(0), dim=-1)


def neighbour_purity(segment_embeds: Tensor, kinds: Sequence[str], *, apart: bool = False) -> Purity:
    """The mean share, among the [`NEIGHBOURS`] nearest segments by cosine, of those of a segment's own kind.

    Args:
        segment_embeds: (clips, K, size), L2-normalised.
        kinds: of each clip.
        apart: neighbours of a segment are those of other clips alone.

    Raises:
        ValueError: a segment has fewer neighbours.

    >>> embeds = torch.eye(2)[:, None].expand(2, 6, 2)
    >>> neighbour_purity(embeds, ["a", "b"])
    Purity(value=100.0, chance=45.4...)
    """
    clips, segments, _ = segment_embeds.shape
    embeds = segment_embeds.flatten(0, 1)
    kind, clip = np.repeat(np.asarray(kinds), segments), np.repeat(np.arange(clips), segments)
    other = torch.from_numpy(clip[:, None] != clip) if apart else ~torch.eye(len(embeds), dtype=torch.bool)
    if (fewest := int(other.sum(1).min())) < NEIGHBOURS:
        raise ValueError(f"a segment has {fewest} possible neighbours, it needs {NEIGHBOURS}: give more clips")
    same = torch.from_numpy(kind[:, None] == kind)
    nearest = (embeds @ embeds.T).masked_fill(~other, -torch.inf).topk(NEIGHBOURS).indices
    chance = (same & other).sum(1) / other.sum(1)
    return Purity(100 * same.gather(1, nearest).double().mean().item(), 100 * chance.double().mean().item())


def map_segments(segment_embeds: Tensor, kinds: Sequence[str], *, title: str, seed: int = 0) -> EmbeddingMap:
    """The segments of clips on a plane, by t-SNE on cosine distances.

    Args:
        segment_embeds: (clips, K, size).
        kinds: of each clip.
        title: of the map.
        seed: of t-SNE.
    """
    from sklearn.manifold import TSNE

    points = segment_embeds.flatten(0, 1).numpy()
    perplexity = min(30.0, (len(points) - 1) / 3)
    method = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    return EmbeddingMap(title, method.fit_transform(points), tuple(np.repeat(kinds, segment_embeds.shape[1]).tolist()))


def draw_maps(maps: Sequence[EmbeddingMap], *, columns: int = 2) -> RGB:
    """Maps in rows of so many `columns`, a colour for each kind, (H, W, 3) uint8."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from PIL import Image

    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(SIDE * columns, SIDE * rows), dpi=DOTS_PER_INCH, layout="constrained")
    for axes, drawn in zip(figure.subplots(rows, columns, squeeze=False).flat, maps, strict=False):
        kinds, names = np.asarray(drawn.kinds), list(dict.fromkeys(drawn.kinds))
        for number, name in enumerate(names):
            points = drawn.points[kinds == name]
            axes.scatter(*points.T, s=10, color=colormaps["tab10"](number % COLOURS), label=name, linewidths=0)
        axes.set_title(drawn.title, fontsize=10, loc="left")
        axes.set(xticks=[], yticks=[])
        if len(names) <= COLOURS:
            style = {"frameon": False, "fontsize": 9, "handletextpad": 0, "columnspacing": 0.5, "borderpad": 0}
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.02), ncols=len(names), **style)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))
