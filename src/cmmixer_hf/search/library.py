"""A library to index: a folder of media files, or a manifest that lists them with their metadata."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.prepared_clips import SourceError
from ..data.sources.folders import read_content
from ..data.sources.tables import TableRow, read_rows
from ..files import file_digest, readable
from .index_rows import MEASURED, metadata_json

MANIFEST_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")


@dataclass(frozen=True)
class LibraryFile:
    """A file of a library: its absolute path, its metadata in a manifest, and those measured from the file.

    `error` is why a row of a manifest, or a file by its name alone, cannot be used.
    """

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def known(self) -> dict[str, Any]:
        """Both, as a row keeps them; the title is the file's name by default."""
        return {**self.metadata, MEASURED: {"title": Path(self.path).stem} | self.measured}


def read_library(library: str | os.PathLike, modality: str) -> tuple[list[LibraryFile], list[str]]:
    """The media files of a folder, or those that a CSV, TSV or JSONL names in its column `path` (or `audio`, `video`).

    Paths in a manifest are relative to it. Other columns are metadata. A file that several lines name (one track of
    several videos) counts once, with the metadata of the first. What cannot be used is a file with an `error`.

    Returns:
        The files, and notes on them for the user.

    Raises:
        SourceError: there is no such library, or it names no file.
    """
    library = Path(library)
    if library.suffix.lower() not in MANIFEST_SUFFIXES or library.is_dir():
        content = read_content(library)
        return [_file(path, {}) for path in content.media], content.notes()
    if not library.is_file():
        raise SourceError(f"{library} does not exist: give a folder of media files, or a CSV or JSONL that names them")
    files: dict[str, LibraryFile] = {}
    for row in read_rows(library, {"path", modality}):
        file = _listed(row, library.parent, modality)
        files.setdefault(file.path, file)
    if (errors := [file.error for file in files.values() if file.error]) and len(errors) == len(files):
        raise SourceError(f"{library} names no file that can be used: {errors[0]}")
    return list(files.values()), []


def _listed(row: TableRow, folder: Path, modality: str) -> LibraryFile:
    if row.error:
        return LibraryFile(row.where, error=f"{row.where}: {row.error}")
    if reserved := row.values.keys() & {"start", "end", MEASURED}:
        raise SourceError(
            f"{row.where.rpartition(',')[0]} has a column `{min(reserved)}`, which `cmmixer index` writes itself "
            "(files are cut by --section_seconds alone): rename it"
        )
    metadata = dict(row.values)
    named = [metadata.pop(column) for column in ("path", modality) if column in metadata]
    if not named:
        return LibraryFile(row.where, error=f"{row.where}: names no file: give a column `path` or `{modality}`")
    return _file(folder / str(named[0]), metadata)


def _file(path: Path, metadata: dict[str, Any]) -> LibraryFile:
    """A file with what is known of it; an error where either is no text that an index can hold."""
    whole = os.path.abspath(path)
    text = whole + metadata_json(metadata)
    if readable(text) != text:
        return LibraryFile(
            readable(whole), error=f"{readable(whole)}: its name or metadata are no text in UTF-8; rename it"
        )
    return LibraryFile(whole, metadata)


def stamp(path: str, *, content: bool = False) -> str:
    """A stamp by which changes of a file are detected: size, time of change, and optionally a digest of the content.

    Raises:
        OSError: there is no such file.
    """
    facts = os.stat(path)
    parts = [str(facts.st_size), str(facts.st_mtime_ns)]
    if content:
        parts.append(file_digest(path))
    return ":".join(parts)


def same_stamp(old: str | None, new: str) -> bool:
    """Whether a file is unchanged: by content where both stamps have it, else by size and time.

    >>> same_stamp("5:1000", "5:1000:ab"), same_stamp("5:1000:ab", "5:2000:ab"), same_stamp("5:1000:ab", "5:1000:cd")
    (True, True, False)
    """
    before, after = (old or "").split(":"), new.split(":")
    return before[2] == after[2] if len(before) == len(after) == 3 else before[:2] == after[:2]
