"""The paper's figures, each one labelled picture: mixtures (Fig. 2), results (Fig. 6), reconstructions (Figs. 7, 8).

Pictures are uint8 RGB arrays, made of the strips of `strips.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .strips import (
    RGB,
    WHITE,
    SeparationPictures,
    enlarge,
    frames_to_rgb,
    sheet,
    spectrograms_to_rgb,
    strip,
    three_mixtures,
)

INK, QUIET, RIGHT = (36, 41, 47), (101, 109, 118), (17, 99, 41)  # colours of text: normal, secondary, of a right result
TEXT, GAP, STRIP_GAP, FRAME_HEIGHT = 16, 8, 2, 128  # pixels
SEPARATION = {
    "video": "Frames",
    "audio": "Sound",
    "mixture": "Mixture",
    "visible": "What the encoder sees of it",
    "video_reconstruction": "Frames as predicted, pale where not trained to be",
    "audio_reconstruction": "Sound as predicted, pale where not trained to be",
}


@dataclass(frozen=True)
class Card:
    """One clip in a row of results: two strips of pictures, (N, H, W, 3) each, and words; `marked` if wanted."""

    above: RGB
    below: RGB
    words: str
    marked: bool = False


def caption(image: RGB, words: str, *, colour: tuple[int, int, int] = INK, size: int = TEXT) -> RGB:
    """A picture (H, W, 3) with words on white above it, cut off at its right edge.

    >>> caption(np.zeros((64, 200, 3), np.uint8), "Frames").shape
    (89, 200, 3)
    """
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    band = Image.new("RGB", (image.shape[1], round(1.6 * size)), (WHITE,) * 3)
    font = ImageFont.truetype(findfont("DejaVu Sans"), size)
    ImageDraw.Draw(band).text((0, 0.2 * size), words, fill=colour, font=font)
    return np.concatenate([np.asarray(band)[:-1], image])


def draw_mixtures(
    pixel_values: Tensor,
    audio_values: Tensor,
    extractor: CMMixerFeatureExtractor,
    *,
    generator: torch.Generator | None = None,
) -> RGB:
    """Fig. 2: frames, spectrograms, and what each mixer makes of the two, beneath one another.

    Args:
        pixel_values, audio_values: normalised stacks of one clip, (1, K, 3, H, W).
        extractor: the one that made them.
        generator: where the masks come from (CPU).
    """
    strips = {
        "Frames": strip(frames_to_rgb(pixel_values[0], extractor)),
        "Sound: log-mel spectrograms": strip(spectrograms_to_rgb(audio_values[0], extractor)),
        **three_mixtures(pixel_values, audio_values, extractor, generator=generator),
    }
    return sheet([caption(enlarge(rows, FRAME_HEIGHT), words) for words, rows in strips.items()], GAP)


def draw_separations(clips: Sequence[SeparationPictures], *, frames: int, segments: int) -> RGB:
    """Figs. 7 and 8: clips side by side, each from its originals through its mixture to its reconstructions.

    Args:
        clips: strips of one size.
        frames: K, of each strip.
        segments: how many of them to show, from the first on.
    """
    rows = []
    for field in fields(SeparationPictures):
        strips = np.stack([getattr(clip, field.name) for clip in clips])
        width = (strips.shape[2] + STRIP_GAP) * segments // frames - STRIP_GAP
        rows.append(caption(strip(enlarge(strips[:, :, :width], FRAME_HEIGHT), 2 * GAP), SEPARATION[field.name]))
    return sheet(rows, GAP)


def draw_results(rows: Sequence[tuple[str, Sequence[Card]]]) -> RGB:
    """Fig. 6: rows of cards under a heading each. Cards of all rows have one size, and rows as many of them."""
    return sheet(
        [caption(strip(np.stack([_draw_card(card) for card in cards]), GAP), words) for words, cards in rows], GAP
    )


def _draw_card(card: Card) -> RGB:
    picture = sheet([strip(card.above), strip(card.below)], 2)
    return caption(picture, card.words, colour=RIGHT if card.marked else QUIET, size=TEXT - 3)
