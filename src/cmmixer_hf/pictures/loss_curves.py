"""Losses over training, as SVG for a page and as PNG for a card."""

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .strips import _extra

History = Sequence[Mapping[str, float]]
SMOOTHING = 0.05  # width of the smoothed curve's window, as a share of the steps

# name in the history, words in the legend, colour (legible on white and on near-black), width in points
LINES = (
    ("loss", "loss", "currentColor", 1.6),
    ("video_loss", "video", "#3987e5", 1.4),
    ("audio_loss", "sound", "#e0752d", 1.4),
)
# Matplotlib knows no `currentColor`: it draws in this one, which the page's text colour then replaces.
INK = "#010203"


def curves(histories: Mapping[str, History]) -> str:
    """Losses over steps as SVG, one panel a stage: the smoothed line over the raw one.

    The SVG is meant to stand inside a page: it takes the page's text colour and font, and loads nothing.

    Args:
        histories: stage → rows with `step`, `loss` and perhaps `video_loss` and `audio_loss`; the rest is not drawn.

    Raises:
        ValueError: no stage.
    """
    style = {"svg.fonttype": "none", "svg.hashsalt": " ".join(histories), "font.family": "sans-serif"}
    with _extra("matplotlib").rc_context(style):
        page = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _draw_curves(histories).savefig(page, format="svg", transparent=True, metadata=nothing)
    return _inline(page.getvalue())


def curves_png(histories: Mapping[str, History]) -> bytes:
    """The same [`curves`] as a PNG file on white."""
    file = io.BytesIO()
    _draw_curves(histories).savefig(file, format="png", dpi=150)
    return file.getvalue()


def _draw_curves(histories: Mapping[str, History]) -> Any:
    """A figure with one panel a stage."""
    if not histories:
        raise ValueError("no training history to draw: give at least one stage")
    figure = _extra("matplotlib.figure").Figure(figsize=(4.6 * len(histories), 2.9), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(histories), squeeze=False)[0], histories, strict=True):
        _draw_panel(axes, stage, histories[stage])
    return figure


def _draw_panel(axes: Any, stage: str, history: History) -> None:
    axes.set_title(stage, loc="left", fontsize=12, color=INK)
    axes.set_xlabel("step", fontsize=10, color=INK)
    for name, words, colour, width in LINES:
        rows = [(row["step"], row[name]) for row in history if np.isfinite(row.get(name, np.nan))]
        if rows:
            steps, values = np.array(rows, dtype=float).T
            colour = INK if colour == "currentColor" else colour
            axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
            axes.plot(steps, _smooth(values), color=colour, linewidth=width, label=words)
    if len(axes.lines) > 2:  # one name needs no legend
        axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=INK, alpha=0.4)
    axes.tick_params(colors=INK, labelsize=10, length=0)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Running mean over [`SMOOTHING`] of the steps: narrow at the steep start, one-sided at the noisy end."""
    place = np.arange(len(values))
    before = np.minimum(round(len(values) * SMOOTHING / 2), place)
    after = np.minimum(before, place[::-1])
    totals = np.concatenate([[0.0], values.cumsum()])
    return (totals[place + after + 1] - totals[place - before]) / (before + after + 1)


def _inline(svg: str) -> str:
    """Make a file a part of a page: no prologue, no fixed size, no identifiers that two figures would share."""
    svg = svg[svg.index("<svg") :].strip()
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head) + ' stroke-linejoin="round"'
    body = re.sub(r"<(metadata|style).*?</\1>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;]*; ", "", body)
    body = re.sub(r' id="([^"]+)"', lambda match: match[0] if f"#{match[1]})" in body else "", body)
    return f"{head}>{body}".replace(INK, "currentColor")
