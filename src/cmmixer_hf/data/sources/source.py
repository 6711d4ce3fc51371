"""Where clips come from: each kind of source is a function in one table, and all of them give the same [`ClipSpec`]s.

| format | source |
|---|---|
| folder | a folder; every media file under it is a clip |
| classes | a folder of `CLASS/FILE` or `SPLIT/CLASS/FILE`, as Kinetics |
| manifest | a CSV, TSV or JSONL file, see `manifests.py` for its columns; several videos may share a track |
| esc50, audioset, audioset-cut, vggsound, kinetics, youtube8m, mgsv | published lists, see `published.py` |
| webdataset, parquet | tars and Parquet files with the media in them, see `archives.py` |
| videofolder, audiofolder | what `datasets` reads under these names, streamed |
| hub | the name of a data set on the Hub, streamed |

A row that cannot be used is a clip with an `error` in all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from ..clips import MEDIA_SUFFIXES, clip_of_file, named_apart
from ..prepared_clips import SourceError
from .folders import SPLIT_FOLDERS, clips_of_files, is_visible, read_classes, read_content
from .manifests import COLUMN_NAMES, names_files, read_manifest, unused_columns
from .published import LISTS, ClipsAndNotes, recognise_list
from .streams import STREAM_KINDS, ClipSpecs, SourceStream
from .tables import JSON_SUFFIXES, TABLE_SUFFIXES, column_names, csv_records

STREAMED_SUFFIXES = {".tar": "webdataset", ".parquet": "parquet"}
FIRST_LINES = 50  # of a table, from which its format is recognised


@dataclass(frozen=True)
class ClipSource:
    """A source as it was read: its format, its clips, and notes on them for the user."""

    format: str
    clips: ClipSpecs
    notes: list[str] = field(default_factory=list)


def read_source(source: str, format: str = "auto", *, media: str | None = None) -> ClipSource:
    """Find the clips of a source.

    Args:
        source: folder, file, or name on the Hub.
        format: one of [`SOURCE_KINDS`]; "auto" looks at the source.
        media: folder where the files of a table are looked for; the table's own by default.

    Raises:
        SourceError: there is nothing to find, or it is not what `format` says.
    """
    kind = recognise(Path(source)) if format == "auto" else format
    if kind not in SOURCE_KINDS:
        raise SourceError(f"unknown format {kind!r}: choose one of {', '.join(SOURCE_KINDS)}")
    if media is not None and kind not in TABLES:
        raise SourceError(f"{source} is read as {kind}, which names no files: leave --media out")
    if kind in STREAM_KINDS:
        return ClipSource(kind, SourceStream(source, kind))
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{source} does not exist: give a folder of media files or a table that names them")
    clips_read, notes = READERS[kind](path, None if media is None else Path(media))
    clips = list(named_apart(clips_read))
    faults = [clip.error for clip in clips if clip.error]
    if len(faults) == len(clips):
        raise SourceError(f"none of the {len(clips)} rows of {source} can be used; the first: {faults[0]}")
    if faults:
        notes = [*notes, f"{len(faults)} of the {len(clips)} rows cannot be used, the first: {faults[0]}"]
    return ClipSource(kind, clips, notes)


def recognise(source: Path) -> str:
    """The format of a folder or file. Nothing is guessed that changes labels: class folders count only under splits."""
    if source.is_file():
        return _recognise_file(source)
    if not source.is_dir():
        raise SourceError(f"{source} is not a folder, nor a file: give one that holds clips, or `--format hub`")
    if (source / "meta" / "esc50.csv").is_file():
        return "esc50"
    inside = [path for path in source.iterdir() if is_visible(path.name)]
    suffixes = {path.suffix.lower() for path in inside if path.is_file()}
    if not suffixes & MEDIA_SUFFIXES:
        streamed = [kind for suffix, kind in STREAMED_SUFFIXES.items() if suffix in suffixes]
        folders = [path.name for path in inside if path.is_dir()]
        if streamed or (folders and SPLIT_FOLDERS.issuperset(folders)):
            return (*streamed, "classes")[0]
    return "folder"


def _recognise_file(source: Path) -> str:
    suffix = source.suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        return "folder"
    if suffix in STREAMED_SUFFIXES:
        return STREAMED_SUFFIXES[suffix]
    if suffix not in TABLE_SUFFIXES:
        raise SourceError(f"{source} is no source that is known by its name: say which with --format")
    return "manifest" if suffix in JSON_SUFFIXES else _recognise_table(source)


def _recognise_table(table: Path) -> str:
    """A published list or somebody's own manifest, by its first records; refused where it could be anything."""
    with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        lines = list(islice(file, FIRST_LINES))
    kind = recognise_list([cells for _, cells, _ in csv_records(lines) if cells])
    if kind is None and not names_files(column_names(table, COLUMN_NAMES)):
        known = "; ".join(f"{name} `{listed.example}`" for name, listed in LISTS.items())
        begin = " ".join("".join(lines[:2]).split())
        raise SourceError(
            f"{table} begins with {begin!r:.120}, which no reader knows for sure. Known are tables with a line of "
            f"column names such as `video,audio,track_id`; {known}. Name the columns, or say --format"
        )
    return kind or "manifest"


def _read_folder(path: Path, media: Path | None) -> ClipsAndNotes:
    if path.is_file():
        return [clip_of_file(path)], []
    content = read_content(path)
    return clips_of_files(content.media), content.notes()


def _read_classes(path: Path, media: Path | None) -> ClipsAndNotes:
    content = read_content(path)
    return read_classes(path, content.media), content.notes()


def _read_manifest(path: Path, media: Path | None) -> ClipsAndNotes:
    unused = unused_columns(path)
    return read_manifest(path, media), [f"columns that mean nothing here: {', '.join(unused)}"] if unused else []


READERS: dict[str, Callable[[Path, Path | None], ClipsAndNotes]] = {
    "folder": _read_folder,
    "classes": _read_classes,
    "manifest": _read_manifest,
    **{name: listed.read for name, listed in LISTS.items()},
}
TABLES = ("manifest", *LISTS)
SOURCE_KINDS = (*READERS, *STREAM_KINDS)
