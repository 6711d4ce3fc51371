"""Where clips come from: each kind of source is a function in one table, and all of them give the same [`ClipSpec`]s.

| format | source |
|---|---|
| folder | a folder; every media file under it is a clip |
| classes | a folder of `CLASS/FILE` or `SPLIT/CLASS/FILE`, as Kinetics |
| manifest | a CSV, TSV or JSONL file, see `manifests.py` for its columns; several videos may share a track |
| esc50, audioset, audioset-cut, youtube8m, mgsv | the lists that these data sets are published as, see `published.py` |
| webdataset, parquet, videofolder, audiofolder | what `datasets` reads under these names, streamed |
| hub | the name of a data set on the Hub, streamed |
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..batches import SourceError
from ..clips import MEDIA_SUFFIXES, ClipSpec, clip_of_file
from .folders import SPLIT_FOLDERS, read_classes, read_folder
from .manifests import read_manifest, unused_columns
from .published import READERS as PUBLISHED
from .published import Found, recognise_table
from .streams import FORMATS as STREAMED
from .streams import Clips, ClipStream

STREAMED_SUFFIXES = {".tar": "webdataset", ".parquet": "parquet"}


@dataclass(frozen=True)
class Source:
    """What was found: the format, the clips, and what the reader has to say about them."""

    format: str
    clips: Clips
    notes: list[str] = field(default_factory=list)


def read_source(source: str, format: str = "auto", *, media: str | None = None) -> Source:
    """Find the clips of a source.

    Args:
        source: folder, file, or name on the Hub.
        format: one of [`FORMATS`]; "auto" looks at the source.
        media: folder where the files of a table are looked for; the table's own by default.

    Raises:
        SourceError: there is nothing to find, or it is not what `format` says.
    """
    kind = recognise(Path(source)) if format == "auto" else format
    if kind not in FORMATS:
        raise SourceError(f"unknown format {kind!r}: choose one of {', '.join(FORMATS)}")
    if media is not None and kind not in TABLES:
        raise SourceError(f"{source} is read as {kind}, which names no files: leave --media out")
    if kind in STREAMED:
        return Source(kind, ClipStream(source, kind))
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{source} does not exist: give a folder of media files or a table that names them")
    clips, notes = READERS[kind](path, None if media is None else Path(media))
    _check_names(clips, source)
    return Source(kind, clips, notes)


def recognise(source: Path) -> str:
    """The format of a folder or file. Nothing is guessed that changes labels: class folders count only under splits."""
    if source.is_file():
        return _recognise_file(source)
    if not source.is_dir():
        raise SourceError(f"{source} is not a folder, nor a file: give one that holds clips, or `--format hub`")
    if (source / "meta" / "esc50.csv").is_file():
        return "esc50"
    suffixes = {path.suffix.lower() for path in source.iterdir() if path.is_file() and not path.name.startswith(".")}
    streamed = [kind for suffix, kind in STREAMED_SUFFIXES.items() if suffix in suffixes]
    if streamed and not suffixes & MEDIA_SUFFIXES:
        return streamed[0]
    folders = [path for path in source.iterdir() if path.is_dir()]
    in_classes = folders and not suffixes & MEDIA_SUFFIXES and all(path.name in SPLIT_FOLDERS for path in folders)
    return "classes" if in_classes else "folder"


def _recognise_file(source: Path) -> str:
    suffix = source.suffix.lower()
    if suffix in MEDIA_SUFFIXES:
        return "folder"
    if suffix in STREAMED_SUFFIXES:
        return STREAMED_SUFFIXES[suffix]
    if suffix not in {".csv", ".tsv", ".txt", ".jsonl", ".ndjson"}:
        raise SourceError(f"{source} is no source that is known by its name: say which with --format")
    with source.open(encoding="utf-8-sig", errors="replace") as file:
        return "manifest" if "json" in suffix else recognise_table(file.readline())


def _read_folder(path: Path, media: Path | None) -> Found:
    return ([clip_of_file(path)] if path.is_file() else read_folder(path)), []


def _read_classes(path: Path, media: Path | None) -> Found:
    return read_classes(path), []


def _read_manifest(path: Path, media: Path | None) -> Found:
    unused = unused_columns(path)
    return read_manifest(path, media), [f"columns that mean nothing here: {', '.join(unused)}"] if unused else []


def _check_names(clips: Sequence[ClipSpec], source: str) -> None:
    name, count = Counter(clip.clip_id for clip in clips).most_common(1)[0]
    if count > 1:
        raise SourceError(f"{source} has {count} clips called {name!r}: give each another clip_id")


READERS = {
    "folder": _read_folder,
    "classes": _read_classes,
    "manifest": _read_manifest,
    **PUBLISHED,
}
TABLES = ("manifest", *PUBLISHED)
FORMATS = (*READERS, *STREAMED)
