"""A library to index: a folder of media files, or a manifest that lists them with their metadata."""

import csv
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.batches import SourceError
from ..data.preparation import find_media
from ..files import file_digest
from .index_rows import MEASURED

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class LibraryFile:
    """A file of a library: its absolute path, what a manifest says of it, and what it tells of itself."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """Both, as a row keeps them; its title is the file's name where nobody says otherwise."""
        return {**self.metadata, MEASURED: {"title": Path(self.path).stem} | self.measured}


def read_library(library: str | os.PathLike, modality: str) -> list[LibraryFile]:
    """The media files of a folder, or those that a CSV, TSV or JSONL names in its column `path` (or `audio`, `video`).

    Paths in a manifest are relative to it. Other columns are metadata. A file that several
    lines name (one track of several videos) counts once, with the metadata of the first.

    Raises:
        SourceError: there is no such library, it names no file, or the manifest cannot be read.
    """
    library = Path(library)
    if library.suffix.lower() not in MANIFEST_SUFFIXES or library.is_dir():
        return [LibraryFile(os.path.abspath(path)) for path in find_media(library)]
    files: dict[str, LibraryFile] = {}
    for number, row in _manifest_rows(library):
        name = next((row[column] for column in ("path", modality) if row.get(column)), None)
        if name is None:
            raise SourceError(f"{library}, line {number} names no file: give a column `path` or `{modality}`")
        if reserved := row.keys() & {"start", "end", MEASURED}:
            raise SourceError(
                f"{library} has a column `{min(reserved)}`, which `cmmixer index` writes itself (files are cut by "
                "--section_seconds alone): rename it"
            )
        metadata = {
            key: value for key, value in row.items() if key not in ("path", modality) and value not in ("", None)
        }
        file = LibraryFile(os.path.abspath(library.parent / name), metadata)
        files.setdefault(file.path, file)
    if not files:
        raise SourceError(f"{library} names no file: give it lines with a column `path` or `{modality}`")
    return list(files.values())


def stamp(path: str, *, content: bool = False) -> str:
    """What tells whether a file has changed: size and time of its last change, and a digest of its content if wanted.

    Raises:
        OSError: there is no such file.
    """
    facts = os.stat(path)
    parts = [str(facts.st_size), str(facts.st_mtime_ns)]
    if content:
        parts.append(file_digest(path))
    return ":".join(parts)


def same_stamp(old: str | None, new: str) -> bool:
    """Whether a file is the one it was: by content where both stamps know it, else by size and time.

    >>> same_stamp("5:1000", "5:1000:ab"), same_stamp("5:1000:ab", "5:2000:ab"), same_stamp("5:1000:ab", "5:1000:cd")
    (True, True, False)
    """
    before, after = (old or "").split(":"), new.split(":")
    return before[2] == after[2] if len(before) == len(after) == 3 else before[:2] == after[:2]


def sections(duration: float, seconds: float | None, hop: float | None) -> list[tuple[float, float]]:
    """Parts of a file to embed, (start, end) in seconds: the first at its start, the last at its end, evenly spaced.

    Args:
        duration: of the file.
        seconds: length of a part; the whole file where it is `None` or longer.
        hop: the most that two starts lie apart; half of `seconds` where it is `None`.

    >>> sections(70.0, 30.0, 15.0)
    [(0.0, 30.0), (13.333, 43.333), (26.667, 56.667), (40.0, 70.0)]
    >>> sections(12.0, 30.0, 15.0)
    [(0.0, 12.0)]
    """
    if seconds is None or duration <= seconds:
        return [(0.0, duration)]
    count = 1 + math.ceil(round((duration - seconds) / (hop or seconds / 2), 6))
    starts = [(duration - seconds) * number / (count - 1) for number in range(count)]
    return [(round(start, 3), round(start + seconds, 3)) for start in starts]


def _manifest_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a manifest, numbered as an editor does."""
    if not path.is_file():
        raise SourceError(f"{path} does not exist: give a folder of media files, or a CSV or JSONL that names them")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".jsonl":
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, dict(json.loads(line))
            else:
                reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                for row in reader:
                    yield reader.line_num, {key: value for key, value in row.items() if key is not None}
    except (UnicodeDecodeError, csv.Error, TypeError, ValueError) as error:
        raise SourceError(
            f"{path} cannot be read as a manifest ({error}): write it as CSV or JSONL in UTF-8"
        ) from error
