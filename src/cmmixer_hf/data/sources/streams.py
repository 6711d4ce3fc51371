"""Clips that come one by one, with the media in them: tars, Parquet, and whatever `datasets` can stream.

Nothing is decoded by `datasets`: every column of media is read as `Video(decode=False)`, sound too, because its `Audio`
needs torchcodec even to hand over bytes.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
from datasets import Audio, IterableDataset, IterableDatasetDict, Video, load_dataset
from datasets.exceptions import DatasetsError

from ..clips import MEDIA_SUFFIXES, SOUND_SUFFIXES, Blob, ClipSpec, Media, clip_or_fault, named_apart, unusable
from ..prepared_clips import SourceError
from .archives import KEY, class_columns, named_classes, parquet_rows, tar_rows
from .folders import SPLIT_FOLDERS, is_visible
from .manifests import ALIASES, describe
from .tables import TableRow

STREAM_KINDS = ("webdataset", "parquet", "videofolder", "audiofolder", "hub")
ARCHIVES: Mapping[str, tuple[str, Callable[[Path], Iterator[TableRow]]]] = {
    "webdataset": (".tar", tar_rows),
    "parquet": (".parquet", parquet_rows),
}
SPLIT_NAME = re.compile(rf"(?:^|[^a-z])({'|'.join(sorted(SPLIT_FOLDERS, key=len, reverse=True))})(?:[^a-z]|$)")
DEFAULT_SPLIT = "train"
SOUND_COLUMNS = {"audio", *(suffix[1:] for suffix in SOUND_SUFFIXES)}
MEDIA_COLUMNS = {"video", "audio", *(suffix[1:] for suffix in MEDIA_SUFFIXES)}
# What a webdataset on the Hub calls the label of a clip, and its name.
COLUMN_ALIASES = ALIASES | {"cls": "label", "__key__": KEY}
STREAM_ERRORS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, DatasetsError, pa.ArrowException)

_Part = tuple[str, Iterable[TableRow]]  # a split's name, and rows of it


class SourceStream:
    """Clips in the order of their data set, which can be iterated repeatedly; their number is not known.

    Args:
        source: folder or file, or the name of a data set on the Hub.
        kind: one of [`STREAM_KINDS`]; "hub" leaves it to `datasets` to find out.

    Raises:
        SourceError: it cannot be read at all. A row that is no clip has an `error`, a file that breaks off ends in one.
    """

    def __init__(self, source: str, kind: str):
        self.source, self.kind = source, kind
        archived = kind in ARCHIVES and Path(source).exists()
        self.parts = _archives(Path(source), kind) if archived else _streamed(source, kind)

    @property
    def fingerprint(self) -> str:
        """Changes with the files of a local source; a source on the Hub is known by its name alone."""
        root = Path(self.source)
        files = sorted(path for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file())
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(json.dumps([self.source, self.kind, stats]).encode()).hexdigest()

    def __iter__(self) -> Iterator[ClipSpec]:
        return named_apart(self._clips())

    def _clips(self) -> Iterator[ClipSpec]:
        numbers = Counter[str]()
        for split, rows in self.parts:
            for row in rows:
                name = f"{split}-{numbers[split]}"
                numbers[split] += 1
                yield unusable(row.where, row.error) if row.error else self._clip(row, split, name)

    def _clip(self, row: TableRow, split: str, name: str) -> ClipSpec:
        root = Path(self.source)
        folder = root if root.is_dir() else root.parent
        return clip_or_fault(row.where, _clip, row, split, name, folder, self.kind == "hub")


ClipSpecs = Sequence[ClipSpec] | SourceStream


def _archives(source: Path, kind: str) -> Sequence[_Part]:
    suffix, read = ARCHIVES[kind]
    inside = sorted(source.rglob(f"*{suffix}")) if source.is_dir() else [source]
    files = [path for path in inside if is_visible(path.name) and path.is_file()]
    if not files:
        raise SourceError(f"{source} holds no {suffix} file: give a folder or file that does")
    return [
        (_split_of(path.relative_to(source.parent if source.is_file() else source)), _Rows(read, path))
        for path in files
    ]


class _Rows:
    """The rows of a file; each iteration begins with the first one."""

    def __init__(self, read: Callable[..., Iterator[TableRow]], *arguments: Any):
        self.read, self.arguments = read, arguments

    def __iter__(self) -> Iterator[TableRow]:
        return self.read(*self.arguments)


def _split_of(path: Path) -> str:
    match = SPLIT_NAME.search(path.as_posix().lower())
    return match.group(1) if match else DEFAULT_SPLIT


def _streamed(source: str, kind: str) -> Sequence[_Part]:
    where = {"data_dir": source} if Path(source).is_dir() else {"data_files": source}
    try:
        loaded = load_dataset(source, streaming=True) if kind == "hub" else load_dataset(kind, **where, streaming=True)
    except STREAM_ERRORS as error:
        raise SourceError(f"{source} cannot be read as {kind}: {error}") from error
    splits = loaded if isinstance(loaded, IterableDatasetDict) else {DEFAULT_SPLIT: loaded}
    return [
        (str(name), _Rows(_dataset_rows, _undecoded(stream), f"{source}, {name}")) for name, stream in splits.items()
    ]


def _undecoded(stream: IterableDataset) -> IterableDataset:
    for name, feature in dict(stream.features or {}).items():
        if isinstance(feature, (Audio, Video)):
            stream = stream.cast_column(name, Video(decode=False))
    return stream


def _dataset_rows(stream: IterableDataset, where: str) -> Iterator[TableRow]:
    """Rows of all files of a data set; one that breaks off does not affect the others."""
    names, number = class_columns(stream.features or {}), -1
    for place in range(stream.num_shards):
        try:
            for row in stream.shard(stream.num_shards, place):
                number += 1
                yield TableRow(f"{where}, row {number}", named_classes(row, names))
        except STREAM_ERRORS as error:
            yield TableRow(
                f"{where}, after row {number}", error=f"a file of it breaks off ({error!s:.200}); fetch it again"
            )


def _clip(row: TableRow, split: str, name: str, folder: Path, remote: bool) -> ClipSpec:
    described: dict[str, Any] = {KEY: name}
    media: dict[str, Media] = {}
    more = row.values.get("json")  # webdataset's place for everything that is no media
    for column, value in {**row.values, **(more if isinstance(more, Mapping) else {})}.items():
        kind = column.rpartition(".")[2].lower()  # a file `song.v1.MP4` of a tar is a column
        if value is None:
            continue
        if kind in MEDIA_COLUMNS:
            media["audio" if kind in SOUND_COLUMNS else "video"] = _media(value, row.where, column, folder, remote)
        else:
            described[COLUMN_ALIASES.get(column, column)] = value
    if not media:
        raise SourceError("it holds no media: name the column video or audio, or after a suffix such as mp4")
    fields = {"split": split} | describe(described) | media
    return ClipSpec(str(described[KEY]), str(described.get("track_id", described[KEY])), **fields)


def _media(value: Any, where: str, column: str, folder: Path, remote: bool) -> Media:
    """A column's value: bytes, a path, or `datasets`' record of both. Only addresses on the Hub are fetched."""
    if isinstance(value, Blob):
        return value
    record = value if isinstance(value, Mapping) else {"path" if isinstance(value, str) else "bytes": value}
    path, data = record.get("path"), record.get("bytes")
    if isinstance(data, bytes):
        return Blob(f"{where}::{path or f'clip.{column}'}", data)
    if not isinstance(path, str):
        raise SourceError(f"column {column} holds neither bytes nor a path, but {type(value).__name__}")
    if remote and path.rpartition("::")[2].startswith("hf://"):
        with fsspec.open(path) as file:
            return Blob(path, file.read())
    if "://" in path:
        raise SourceError(f"{column} = {path!r:.200} is an address: fetch the file, and name it or put its bytes here")
    if not (folder / path).is_file():
        raise SourceError(f"{column} = {path!r:.200} is no file ({folder / path} is not there): correct the row")
    return str(folder / path)
