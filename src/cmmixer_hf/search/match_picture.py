"""Why an item was found: how similar each part of the query is to each part of the item, as a small picture."""

from typing import TYPE_CHECKING

import numpy as np

from .index import Match, clock

if TYPE_CHECKING:
    from PIL.Image import Image


INCHES, DOTS_PER_INCH = (4.6, 4.2), 160
LONGEST_TITLE = 40


def draw_match(match: Match) -> "Image":
    """Cosines of the query's segments (rows) with the item's (columns); the score is the mean of the framed diagonal.

    Where the index has a background, the mean of any two clips at these positions is subtracted: segments encode their
    position in the clip, which gives a diagonal for any film and any music.

    Returns:
        a Pillow image: `.save("match.png")` writes it.

    Raises:
        ImportError: Matplotlib or Pillow is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
        from PIL import Image
    except ImportError as error:
        raise ImportError(f'pictures need {error.name}, which is missing: pip install "cmmixer_hf[demo]"') from error
    similarity, of_what = np.array(match.similarity), "similarity (cosine)"
    if match.beyond:
        similarity, of_what = np.array(match.beyond), "similarity beyond that of any two clips"
    places = range(len(similarity))
    figure = Figure(figsize=INCHES, dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(similarity, cmap="viridis", vmin=min(0.0, similarity.min()), vmax=max(1.0, similarity.max()))
    middle = np.mean(image.get_clim())
    for place in places:
        value = similarity[place, place]
        axes.add_patch(Rectangle((place - 0.47, place - 0.47), 0.94, 0.94, fill=False, edgecolor="white", linewidth=2))
        colour = "black" if value > middle else "white"
        axes.text(place, place, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_title(f"{match.title[:LONGEST_TITLE]}\nscore {match.score:.3f}", fontsize=10)
    axes.set_ylabel("part of the query")
    axes.set_yticks(places, [str(place + 1) for place in places])
    axes.set_xlabel("time in the item" if match.position else "part of the item")
    axes.set_xticks(places, _times(match), rotation=0, fontsize=8)
    figure.colorbar(image, ax=axes, shrink=0.8, label=of_what)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _times(match: Match) -> list[str]:
    """The middle of each of the item's segments, or their numbers where its place is not known."""
    count = len(match.similarity)
    if not match.position:
        return [str(number + 1) for number in range(count)]
    start, end = match.item["start"], match.item["end"]
    middles = [start + (number + 0.5) * (end - start) / count for number in range(count)]
    return [clock(middle) if end - start >= count else f"{middle:.1f}" for middle in middles]
