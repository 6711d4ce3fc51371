"""The report of a run, as a single self-contained HTML file: scores, tracks to listen to, pictures, curves."""

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ..files import atomic_file
from ..pictures.loss_curves import curves
from ..pictures.strips import RGB, enlarge, jpeg_bytes, png_bytes

STRIP_HEIGHT = 160  # pixels, so that the patches of a strip stay sharp on a dense screen
_PAGE = Path(__file__).with_name("report.html")
ScoreRow = dict[str, str | float]


@dataclass(frozen=True)
class Track:
    """One answer to a query.

    Args:
        title: what the reader sees.
        score: similarity to the query; bars are drawn from 0 to the report's best score.
        right: whether it is the query's own track.
        sound: an .m4a file (AAC in MP4).
    """

    title: str
    score: float
    right: bool
    sound: bytes


@dataclass(frozen=True)
class Query:
    """One clip and the tracks found for it.

    Args:
        title: what the reader sees.
        frames: (K, H, W, 3) uint8.
        rank: place of the right track, from 1; a half where scores tie.
        tracks: best first, without gaps from rank 1; behind them perhaps the right track from further down.
        pool: number of tracks that were ranked.
    """

    title: str
    frames: RGB
    rank: float
    tracks: list[Track]
    pool: int | None = None


@dataclass(frozen=True)
class Panel:
    """One picture, (H, W, 3) uint8; neighbours with the same `group` stand under one another beneath that heading."""

    caption: str
    image: RGB
    group: str = ""


@dataclass(frozen=True)
class Report:
    """Everything on the page. A part that is empty leaves out its section.

    Args:
        title: heading of the page.
        lead: one paragraph, what this is.
        listen_for: one paragraph, what picture and sound have in common.
        scores: rows of a table, column → words or number; all rows have the columns of the first. Neighbours with the
            same first cell are grouped.
        twins: rows of a second table, what the models tell apart.
        panels: mixtures, reconstructions.
        histories: stage → rows with `step`, `loss`, …, as [`curves`] takes them.
        queries: clips and the tracks found for them.
        notes: cautions in plain words.
        facts: settings, seed, versions, time.
        command: what makes this page again.
    """

    title: str
    lead: str
    listen_for: str = ""
    scores: list[ScoreRow] = field(default_factory=list)
    twins: list[ScoreRow] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)
    histories: dict[str, list[dict]] = field(default_factory=dict)
    queries: list[Query] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    command: str = ""


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write the page to `path`, whole or not at all; folders that are missing are made.

    Raises:
        OSError: the file cannot be written; what was at `path` before is still there.
    """
    page = render(report)
    with atomic_file(path) as partial:
        partial.write_text(page, encoding="utf-8")


def render(report: Report) -> str:
    """The page as HTML. Every word of the report is escaped; pictures and sounds are inside as data."""
    page = Environment(loader=FileSystemLoader(_PAGE.parent), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters |= {
        "grouped": _grouped,
        "neighbours": _neighbours,
        "share_of": _share_of,
        "curves": curves,
        "jpeg": lambda frame: _data("image/jpeg", jpeg_bytes(frame)),
        "strip": lambda image: _data("image/png", png_bytes(enlarge(image, STRIP_HEIGHT))),
        "m4a": lambda sound: _data("audio/mp4", sound),
    }
    return page.get_template(_PAGE.name).render(report=report)


def _grouped(rows: list[ScoreRow]) -> tuple[list[str], list[tuple[str, list[ScoreRow]]]]:
    """A table's columns and groups of rows; where neighbours share their first cell, it is their group's name."""
    first, *others = rows[0]
    groups = [(str(name), list(members)) for name, members in groupby(rows, key=lambda row: row[first])]
    if len(groups) == len(rows):
        return [first, *others], [("", rows)]
    return others, groups


def _neighbours(items: Iterable[Any], name: str) -> list[tuple[Any, list[Any]]]:
    return [(value, list(members)) for value, members in groupby(items, key=attrgetter(name))]


def _share_of(score: float, report: Report) -> float:
    """Length of a score's bar in percent of the best one's on the page; none where no score is above zero."""
    best = max(track.score for query in report.queries for track in query.tracks)
    return 100 * min(max(score / best, 0.0), 1.0) if best > 0 else 0.0


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
