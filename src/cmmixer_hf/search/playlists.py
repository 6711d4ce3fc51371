"""Matches as files for other programs: a table for a spreadsheet, a playlist for a player."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..files import atomic_file, readable, write_csv
from .filters import as_number
from .index import Match
from .measuring import one_line

# A query and its matches.
Found = tuple[str, Sequence[Match]]
VLC_PLACES = (("start", "start"), ("stop", "end"))  # in VLC's words, and in ours
FIRST_COLUMNS = ("query", "rank", "score", "title", "artist", "path", "start", "end")


def write_matches_csv(path: str | os.PathLike, answers: Iterable[Found]) -> None:
    """A row a match, the best of each query first, with all that is known of it; rank and score are the match's."""
    rows = [
        {**match.item, "query": query, "rank": rank, "score": round(match.score, 4), "title": match.title}
        for query, matches in answers
        for rank, match in enumerate(matches, 1)
    ]
    others = sorted({key for row in rows for key in row} - set(FIRST_COLUMNS))
    columns = [*FIRST_COLUMNS, *others]
    write_csv(path, [columns, *([_cell(row.get(column, "")) for column in columns] for row in rows)])


def write_m3u(path: str | os.PathLike, answers: Iterable[Found], *, folder: str | os.PathLike = "") -> None:
    """A playlist, in which VLC plays each match from its section's second; relative paths start from `folder`."""
    lines = ["#EXTM3U"]
    for match in (match for _, matches in answers for match in matches if "path" in match.item):
        name = " - ".join(filter(None, [str(match.item.get("artist", "")), match.title]))
        lines.append(f"#EXTINF:{_whole_seconds(match.item.get('duration'))},{one_line(name)}")
        lines += [f"#EXTVLCOPT:{key}-time={match.item[where]:g}" for key, where in VLC_PLACES if where in match.item]
        lines.append(os.path.abspath(os.path.join(folder, match.item["path"])))
    with atomic_file(path) as partial:
        Path(partial).write_text("\n".join(map(readable, lines)) + "\n", encoding="utf-8")


def _whole_seconds(duration: Any) -> int:
    """A duration as a playlist has it; -1 where a library says something else than seconds, such as `3:20`."""
    seconds = as_number(str(duration))
    return -1 if seconds is None else round(seconds)


def _cell(value: Any) -> str:
    return "; ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
