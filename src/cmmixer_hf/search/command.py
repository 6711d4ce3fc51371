"""`cmmixer search`: queries in, a table or a line of JSON for each."""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..data.prepared_clips import SourceError
from ..files import aligned, atomic_file
from ..settings import SearchSettings
from .filters import parse_conditions
from .index import Match, clock
from .match_picture import draw_match
from .playlists import write_m3u, write_matches_csv
from .queries import Answer, QueryPart
from .searcher import Searcher

UNUSABLE = 1  # exit status where a query could not be used
SHOWN_PLACES = 3  # other places of a match in the table; JSON has all


def search(settings: SearchSettings) -> int:
    """Print the best items for each query; the index and the model are loaded once. Returns the status.

    Raises:
        SourceError: of settings that fit no query; a single query that cannot be used is named, the others answered.
    """
    where = parse_conditions(settings.where)
    queries, plus, minus = _parts(settings)
    searcher = Searcher(settings.index, settings.model, candidates=settings.candidates)
    answers = searcher.search_many(
        queries, plus=plus, minus=minus, k=settings.k, where=where, long_query=settings.long_query
    )
    for answer in answers:
        if answer.error:
            print(f"cmmixer: {answer.error}", file=sys.stderr)
            continue
        own = [_same_file(answer.query.path, match, settings.index) for match in answer.matches]
        print(_as_json(answer, own) if settings.json else _as_table(answer, own))
        if settings.picture and answer.matches:
            with atomic_file(settings.picture) as partial:
                draw_match(answer.matches[0]).save(partial)
    results = [(answer.title, answer.matches) for answer in answers]
    if settings.csv:
        write_matches_csv(settings.csv, results)
    if settings.m3u:
        write_m3u(settings.m3u, results, folder=settings.index)
    return UNUSABLE if any(answer.error for answer in answers) else 0


def _parts(settings: SearchSettings) -> tuple[list[QueryPart], list[QueryPart], list[QueryPart]]:
    """Queries, and what bends them; words beside files bend these, and alone they are the query."""
    if settings.k < 1:
        raise SourceError(f"-k is how many items to show, at least 1, got {settings.k}")
    queries, plus, minus = (list(map(QueryPart.parse, of)) for of in (settings.queries, settings.plus, settings.minus))
    words = [QueryPart(text=settings.text)] if settings.text is not None else []
    if not queries and not words:
        raise SourceError('there is no query: name a file, or say what is looked for with --text "WORDS"')
    queries, plus = (queries, plus + words) if queries else (words, plus)
    if settings.picture and len(queries) > 1:
        raise SourceError(f"--picture draws one query's best match, got {len(queries)} queries: give one")
    if settings.picture and Path(settings.picture).suffix.lower() != ".png":
        raise SourceError(f"--picture draws a PNG, got {settings.picture}: name it {Path(settings.picture).stem}.png")
    return queries, plus, minus


def _same_file(query: str, match: Match, index: str) -> bool:
    """Whether an item is (a part of) the query's own file, or a copy; relative paths start from the index's folder."""
    paths = [one.item["path"] for one in (match, *match.also) if "path" in one.item]
    return bool(query) and os.path.realpath(query) in (os.path.realpath(os.path.join(index, path)) for path in paths)


def _as_json(answer: Answer, own: Sequence[bool]) -> str:
    """One line: the query and its matches, each with its metadata, place and score, and whether it is the query's."""
    found = []
    for match, mine in zip(answer.matches, own, strict=True):
        also = [{**_place(other), "score": round(other.score, 4)} for other in match.also]
        facts = {"score": round(match.score, 4), "own": mine}
        facts |= {} if match.standing is None else {"standing": round(match.standing, 2)}
        facts |= {} if match.asked is None else {"query_start": match.asked[0], "query_end": match.asked[1]}
        found.append(match.item | facts | ({"also": also} if also else {}))
    place = {} if answer.place is None else {"query_start": answer.place[0], "query_end": answer.place[1]}
    line = {"query": str(replace(answer.query, weight=1.0)), **place, "stands_out": answer.stands_out, "matches": found}
    return json.dumps(line, ensure_ascii=False)


def _place(match: Match) -> dict[str, object]:
    return {key: match.item[key] for key in ("path", "start", "end") if key in match.item}


def _as_table(answer: Answer, own: Sequence[bool]) -> str:
    known = any(match.standing is not None for match in answer.matches)
    lines = [["", "score", *["beyond noise"] * known, "position", "title", "path"]]
    for rank, (match, mine) in enumerate(zip(answer.matches, own, strict=True), 1):
        path = str(match.item.get("path", "")) + "  <- its own" * mine + _others(match)
        path += f"  (asked by {clock(match.asked[0])}-{clock(match.asked[1])})" if match.asked else ""
        standing = [f"{match.standing:+.1f} σ"] if match.standing is not None else []
        lines.append([str(rank), f"{match.score:.3f}", *standing, match.position, match.title, path])
    columns = ">" * (len(lines[0]) - 2) + "<<"
    table = aligned(lines, columns) if answer.matches else "  nothing in the index fits the filter"
    note = "" if answer.stands_out else "  nothing stands out: none of these fits better than noise would\n"
    return f"{answer.title}\n{table}\n{note}"


def _others(match: Match) -> str:
    """Other sections and copies that fold under a match."""
    if not match.also:
        return ""
    shown = [
        other.position if other.item.get("path") == match.item.get("path") else os.path.basename(other.item["path"])
        for other in match.also[:SHOWN_PLACES]
    ]
    rest = len(match.also) - len(shown)
    return f"  (also {', '.join(dict.fromkeys(shown))}{f' and {rest} more' if rest else ''})"
