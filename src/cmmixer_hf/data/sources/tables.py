"""Text tables, CSV, TSV and JSONL, row by row: a row that cannot be read is named, and the others are still read."""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...files import readable
from ..prepared_clips import SourceError

JSON_SUFFIXES = (".jsonl", ".ndjson")
TABLE_SUFFIXES = (".csv", ".tsv", ".txt", *JSON_SUFFIXES)
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class TableRow:
    """A row's values by the names of their columns, empty ones left out; or `error`, why it cannot be read.

    `where` is "FILE, line N", for messages.
    """

    where: str
    values: dict[str, Any] = field(default_factory=dict)
    error: str | None = None


def read_rows(table: Path, known: Collection[str]) -> Iterator[TableRow]:
    """Rows of a table under a line of column names, or of one JSON object a line.

    Args:
        table: CSV, TSV or JSONL; separators may be any of [`DELIMITERS`].
        known: names of columns, matched in any case and with blanks for `_`.

    Raises:
        SourceError: the table has no rows.
    """
    lines = read_lines(table)
    is_json = table.suffix.lower() in JSON_SUFFIXES
    row = None
    for row in _json_rows(table, lines) if is_json else _csv_rows(table, lines, known):
        values = {_known_name(name, known): value for name, value in row.values.items() if value not in (None, "")}
        yield TableRow(row.where, values, row.error)
    if row is None:
        raise SourceError(f"{table} lists no clip: expected a row a clip under a line of column names")


def read_lines(table: Path) -> list[str]:
    """A table's lines; bytes that are not UTF-8 become surrogates, so that only their row is refused."""
    with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        return list(file)


def csv_records(lines: Sequence[str], delimiter: str = ",") -> Iterator[tuple[int, list[str], str | None]]:
    """Records of CSV: the number of their first line, their cells, and what is wrong with them.

    Blank ones are left out. A quote that is never closed would swallow the rest: after it, the next line counts again.

    >>> list(csv_records(['a,"b', "c,d"]))[1]
    (2, ['c', 'd'], None)
    """
    first = 0
    while first < len(lines):
        reader = csv.reader(
            map(lines.__getitem__, range(first, len(lines))), delimiter=delimiter, skipinitialspace=True, strict=True
        )
        begun = first
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    wrong = any(readable(cell) != cell for cell in cells)
                    yield begun + 1, cells, "is no text in UTF-8; save the table as UTF-8" if wrong else None
                begun = first + reader.line_num
            return
        except csv.Error as error:
            yield begun + 1, [], f"its quotes do not match ({error}); close each, and double those inside a cell"
            first = begun + 1


def column_names(table: Path, known: Collection[str]) -> list[str]:
    """Columns of a table's first row, those that are known under their names."""
    lines = read_lines(table)
    if table.suffix.lower() in JSON_SUFFIXES:
        return [_known_name(name, known) for row in _json_rows(table, lines[:1]) for name in row.values]
    heading = next(csv_records(lines, _delimiter(lines, known)), (1, [], None))[1]
    return [_known_name(name, known) for name in heading if name.strip()]


def parse_json(text: str | bytes) -> Any:
    """The value that a text holds. Raises ValueError whatever is wrong with it, its depth included."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _csv_rows(table: Path, lines: Sequence[str], known: Collection[str]) -> Iterator[TableRow]:
    heading: list[str] = []
    for number, cells, error in csv_records(lines, _delimiter(lines, known)):
        if not heading:
            heading = cells or [""]
            continue
        while len(cells) > len(heading) and not cells[-1].strip():  # spreadsheets end lines with empty cells
            cells = cells[:-1]
        if error is None and len(cells) != len(heading):
            error = f"expected {len(heading)} columns, got {len(cells)}; quote values with commas"
        yield TableRow(f"{table}, line {number}", {} if error else dict(zip(heading, cells, strict=True)), error)


def _json_rows(table: Path, lines: Sequence[str]) -> Iterator[TableRow]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{table}, line {number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            yield TableRow(where, error=f"is not JSON ({error!s:.200}); write one object a line")
            continue
        if isinstance(row, dict):
            yield TableRow(where, row)
        else:
            yield TableRow(where, error=f'expected an object such as {{"video": …}}, got {line.strip():.40}')


def _delimiter(lines: Sequence[str], known: Collection[str]) -> str:
    """What separates the cells: that with which most of the column names are known."""
    heading = next((line for line in lines if line.strip()), "")

    def fit(mark: str) -> int:
        return sum(_known_name(name.strip(' "\r\n'), known) in known for name in heading.split(mark))

    return max(DELIMITERS, key=fit)


def _known_name(name: str, known: Collection[str]) -> str:
    """`Video Path` is `video_path` where that is known."""
    plain = name.strip().lower().replace(" ", "_")
    return plain if plain in known else name
