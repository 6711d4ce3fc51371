"""What one run showed, as a single HTML file that needs nothing else: scores, tracks to listen to, pictures, curves."""

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path
from string import Template

from ..files import atomic_file
from ..pictures.loss_curves import curves
from ..pictures.strips import RGB, enlarge, jpeg_bytes, png_bytes

STRIP_HEIGHT = 160  # pixels, so that the patches of a strip stay sharp on a dense screen
_PAGE = Path(__file__).with_name("report.html")
SCORES_INTRO = (
    "R@k is the percentage of queries whose own partner is among the k best; higher is better. "
    "A lower median rank is better."
)
TWINS_INTRO = (
    "How often a sound prefers its own clip to a twin of it that differs in one thing alone, in percent, with 95 % "
    "intervals: the frames in another order (time), the two tunes exchanged (binding), one shape replaced (identity), "
    "high and low exchanged (height), another sway (motion)."
)
QUERIES_INTRO = (
    "Each card is one clip, shown without its sound, and the tracks that the model ranks first for it. "
    "The clip’s own track is marked. A bar is the similarity, from zero to the highest on this page."
)


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
    """One clip and what was found for it.

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
        queries: clips and what was found for them.
        notes: cautions in plain words.
        facts: settings, seed, versions, time.
        command: what makes this page again.
    """

    title: str
    lead: str
    listen_for: str = ""
    scores: list[dict[str, str | float]] = field(default_factory=list)
    twins: list[dict[str, str | float]] = field(default_factory=list)
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
    sections = (
        _section("What to listen for", f"<p>{escape(report.listen_for)}</p>" if report.listen_for else ""),
        _section("Scores", _scores(report.scores), SCORES_INTRO),
        _section("What it understood", _scores(report.twins), TWINS_INTRO),
        _section("Listen", _queries(report.queries), QUERIES_INTRO),
        _section("What to make of it", _notes(report.notes)),
        _section("Inside the model", _panels(report.panels)),
        _section("Training", _curves(report.histories)),
        _section("How this page was made", _facts(report.facts) + _command(report.command)),
    )
    template = Template(_PAGE.read_text(encoding="utf-8"))
    words = {"title": escape(report.title), "lead": escape(report.lead)}
    return template.substitute(words, sections="\n".join(filter(None, sections)))


def _section(title: str, body: str, intro: str = "") -> str:
    if not body:
        return ""
    intro = f'<p class="quiet">{escape(intro)}</p>\n' if intro else ""
    return f"<section>\n<h2>{escape(title)}</h2>\n{intro}{body}\n</section>"


def _scores(rows: Sequence[Mapping[str, str | float]]) -> str:
    if not rows:
        return ""
    first, *others = rows[0]
    groups = [(name, list(members)) for name, members in groupby(rows, key=lambda row: row[first])]
    grouped = len(groups) < len(rows)
    columns = others if grouped else [first, *others]
    head = "".join(f'<th scope="col"{_alignment(rows[0][name])}>{escape(name)}</th>' for name in columns)
    bodies = "\n".join(_score_group(str(name) if grouped else "", members, columns) for name, members in groups)
    return _scroll(f"<table>\n<thead><tr>{head}</tr></thead>\n{bodies}\n</table>", "Scores")


def _score_group(name: str, rows: Sequence[Mapping[str, str | float]], columns: Sequence[str]) -> str:
    title = f'<tr><th scope="rowgroup" colspan="{len(columns)}">{escape(name)}</th></tr>' if name else ""
    cells = ["".join(f"<td{_alignment(row[key])}>{_cell(row[key])}</td>" for key in columns) for row in rows]
    return f"<tbody>{title}" + "".join(f"<tr>{line}</tr>" for line in cells) + "</tbody>"


def _cell(value: str | float) -> str:
    return f"{value:.1f}" if isinstance(value, float) else escape(str(value))


def _alignment(value: str | float) -> str:
    return "" if isinstance(value, str) else ' class="number"'


def _scroll(body: str, label: str, kind: str = "") -> str:
    """A card that scrolls sideways where the screen is narrow, by keyboard too."""
    label = escape(label)
    return f'<div class="card scroll {kind}" tabindex="0" role="region" aria-label="{label}">\n{body}\n</div>'


def _queries(queries: Sequence[Query]) -> str:
    best = max((track.score for query in queries for track in query.tracks), default=1.0)
    return "\n".join(_query(query, best) for query in queries)


def _query(query: Query, best: float) -> str:
    frames = "".join(f'<img src="{_data("image/jpeg", jpeg_bytes(frame))}" alt="">' for frame in query.frames)
    label = escape(f"{len(query.frames)} frames of {query.title}")
    pool = "" if query.pool is None else f" of {query.pool}"
    return f"""<article class="card query">
<header><h3>{escape(query.title)}</h3><span class="quiet">own track at rank {query.rank:g}{pool}</span></header>
<div class="frames" style="--frames: {len(query.frames)}" role="img" aria-label="{label}">{frames}</div>
<ol class="tracks">
{_tracks(query, best)}
</ol>
</article>"""


def _tracks(query: Query, best: float) -> str:
    """The rows. The right track carries the query's rank, the others their place in the list."""
    rows = []
    for place, track in enumerate(query.tracks, start=1):
        rank = query.rank if track.right else place
        rows.append(_track(track, rank, share=track.score / best if best > 0 else 0.0, later=rank >= place + 1))
    return "\n".join(rows)


def _track(track: Track, rank: float, *, share: float, later: bool) -> str:
    kinds = " ".join(kind for kind, holds in (("right", track.right), ("later", later)) if holds)
    mark = ' <span class="mark">✓ own track</span>' if track.right else ""
    width = 100 * min(max(share, 0.0), 1.0)
    title = escape(track.title)
    return f"""<li class="{kinds}">
<span class="place">{rank:g}</span>
<div><div class="name">{title}{mark}</div>
<div class="score"><span class="bar"><span style="width: {width:.1f}%"></span></span>{track.score:.3f}</div></div>
<audio controls preload="metadata" aria-label="{title}" src="{_data("audio/mp4", track.sound)}"></audio>
</li>"""


def _panels(panels: Iterable[Panel]) -> str:
    groups = [(title, list(members)) for title, members in groupby(panels, key=lambda panel: panel.group)]
    return "\n".join(_panel_group(title, members) for title, members in groups)


def _panel_group(title: str, panels: Sequence[Panel]) -> str:
    heading = f'<h3 class="group">{escape(title)}</h3>\n' if title else ""
    return heading + _scroll("\n".join(map(_panel, panels)), title or "Pictures", "strips")


def _panel(panel: Panel) -> str:
    caption = escape(panel.caption)
    source = _data("image/png", png_bytes(enlarge(panel.image, STRIP_HEIGHT)))
    return f'<figure><figcaption>{caption}</figcaption><img src="{source}" alt="{caption}"></figure>'


def _curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """A figure a stage, so that on a phone they stand under one another at a size that can be read."""
    figures = "\n".join(_curve(stage, history) for stage, history in histories.items())
    return f'<div class="curves">\n{figures}\n</div>' if figures else ""


def _curve(stage: str, history: Sequence[Mapping[str, float]]) -> str:
    label = escape(f"Loss over steps: {stage}")
    return f'<figure class="card" role="img" aria-label="{label}">{curves({stage: history})}</figure>'


def _notes(notes: Sequence[str]) -> str:
    items = "\n".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<ul class="notes">\n{items}\n</ul>' if notes else ""


def _facts(facts: Mapping[str, str]) -> str:
    items = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in facts.items()
    )
    return f'<dl class="card facts">\n{items}\n</dl>\n' if facts else ""


def _command(command: str) -> str:
    return f'<pre class="card"><code>{escape(command)}</code></pre>' if command else ""


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
