"""Do embeddings of one kind lie together? A t-SNE picture (Fig. 5), and a number beside it, for such pictures mislead."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .visualization import RGB

MOST_NAMED = 10  # kinds in a legend, and colours
INCHES, DOTS_PER_INCH = (4.5, 4.3), 150


@dataclass(frozen=True)
class Purity:
    """How many of a point's nearest neighbours are of its kind, in percent, and how many of all others are."""

    value: float
    chance: float

    def __str__(self) -> str:
        return f"neighbours of the same kind: {self.value:.0f} % (chance {self.chance:.0f} %)"


@dataclass(frozen=True)
class EmbeddingMap:
    """Points on a plane, (N, 2), the name of each one's kind, and how pure their neighbourhoods were before t-SNE."""

    title: str
    points: npt.NDArray[np.float32]
    kinds: tuple[str, ...]
    purity: Purity


def neighbour_purity(
    embeds: Tensor, kinds: Sequence[str], *, neighbours: int = 5, groups: Sequence[str] | None = None
) -> Purity:
    """The mean share of the `neighbours` nearest points by cosine that are of a point's own kind.

    Args:
        embeds: (N, size), L2-normalised.
        kinds: of each point.
        groups: points of one group are not counted as neighbours: the segments of one clip, which are alike anyway.

    Raises:
        ValueError: a point has fewer neighbours than are asked for.

    >>> embeds = torch.eye(2).repeat_interleave(3, 0)
    >>> neighbour_purity(embeds, list("aaabbb"), neighbours=2)
    Purity(value=100.0, chance=40.0)
    """
    kind, group = (np.asarray(names) for names in (kinds, groups if groups is not None else range(len(kinds))))
    other = torch.from_numpy(group[:, None] != group)
    if (fewest := int(other.sum(1).min())) < neighbours:
        raise ValueError(f"a point has {fewest} possible neighbours, {neighbours} are asked for: give more clips")
    same = torch.from_numpy(kind[:, None] == kind)
    nearest = (embeds @ embeds.T).masked_fill(~other, -torch.inf).topk(neighbours).indices
    chance = (same & other).sum(1) / other.sum(1)
    return Purity(100 * same.gather(1, nearest).double().mean().item(), 100 * chance.double().mean().item())


def map_segments(
    segment_embeds: Tensor, kinds: Sequence[str], *, title: str, apart: bool = False, seed: int = 0
) -> EmbeddingMap:
    """The segments of clips on a plane, by t-SNE on cosine distances; needs scikit-learn.

    Args:
        segment_embeds: (clips, K, size), L2-normalised.
        kinds: of each clip.
        title: of the map.
        apart: neighbours of a segment are those of other clips alone.
        seed: of t-SNE.
    """
    from sklearn.manifold import TSNE

    clips, segments, _ = segment_embeds.shape
    embeds, names = segment_embeds.flatten(0, 1), np.repeat(np.asarray(kinds), segments).tolist()
    groups = np.repeat(np.arange(clips), segments).tolist() if apart else None
    purity = neighbour_purity(embeds, names, groups=groups)
    perplexity = min(30.0, (len(embeds) - 1) / 3)
    method = TSNE(metric="cosine", init="random", perplexity=perplexity, random_state=seed)
    return EmbeddingMap(title, method.fit_transform(embeds.numpy()), tuple(names), purity)


def draw_maps(maps: Sequence[EmbeddingMap], *, columns: int = 2) -> RGB:
    """Maps in rows of so many `columns`, a colour for each kind, (H, W, 3) uint8."""
    import matplotlib
    from matplotlib.figure import Figure
    from PIL import Image

    width, height, rows = *INCHES, -(-len(maps) // columns)
    figure = Figure(figsize=(width * columns, height * rows), dpi=DOTS_PER_INCH, layout="constrained")
    colours = matplotlib.colormaps["tab10"].colors
    for axes, drawn in zip(figure.subplots(rows, columns, squeeze=False).flat, maps, strict=False):
        kinds = np.asarray(drawn.kinds)
        names = list(dict.fromkeys(drawn.kinds))
        for number, name in enumerate(names):
            points = drawn.points[kinds == name]
            axes.scatter(*points.T, s=12, color=colours[number % len(colours)], label=name, linewidths=0, alpha=0.8)
        axes.set_title(f"{drawn.title}\n{drawn.purity}", fontsize=10, loc="left")
        axes.set(xticks=[], yticks=[])
        if len(names) <= MOST_NAMED:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncols=5, frameon=False, fontsize=8)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return np.asarray(Image.open(file).convert("RGB"))
