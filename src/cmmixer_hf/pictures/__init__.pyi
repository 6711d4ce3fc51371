from .bent_queries import bend_query, bending_effects, draw_bent_queries
from .embedding_map import centre_places, draw_maps, map_segments, neighbour_purity
from .figures import draw_mixtures, draw_separations
from .loss_curves import curves
from .strips import (
    RGB,
    draw_separation,
    enlarge,
    frames_to_rgb,
    png_bytes,
    sheet,
    spectrograms_to_rgb,
    strip,
    three_mixtures,
)

__all__ = [
    "RGB",
    "bend_query",
    "bending_effects",
    "centre_places",
    "curves",
    "draw_bent_queries",
    "draw_maps",
    "draw_mixtures",
    "draw_separation",
    "draw_separations",
    "enlarge",
    "frames_to_rgb",
    "map_segments",
    "neighbour_purity",
    "png_bytes",
    "sheet",
    "spectrograms_to_rgb",
    "strip",
    "three_mixtures",
]
