"""Whatever `datasets` can stream → clips, one by one: webdataset tars, Parquet with bytes, `videofolder`, the Hub.

Nothing is decoded by `datasets`: every column of media is read as `Video(decode=False)`, sound too, because its `Audio`
needs torchcodec even to hand over bytes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import fsspec
from datasets import Audio, ClassLabel, IterableDataset, IterableDatasetDict, Video, load_dataset

from ..batches import SourceError
from ..clips import MEDIA_SUFFIXES, SOUND_SUFFIXES, Blob, ClipSpec, Media
from .manifests import ALIASES, describe

FORMATS = ("webdataset", "parquet", "videofolder", "audiofolder", "hub")
MEDIA_COLUMNS = {"video", "audio", *(suffix[1:] for suffix in MEDIA_SUFFIXES)}
SOUND_COLUMNS = {"audio", *(suffix[1:] for suffix in SOUND_SUFFIXES)}
# What a webdataset calls the label of an image or a clip.
COLUMN_ALIASES = ALIASES | {"cls": "label", "__key__": "clip_id"}


class ClipStream:
    """Clips in the order of their data set, which can be gone through again and again; nobody knows how many.

    Args:
        source: folder or file, or the name of a data set on the Hub.
        kind: one of `FORMATS`; "hub" leaves it to `datasets` to find out.

    Raises:
        SourceError: `datasets` cannot read it, or (while going through it) a row holds no media.
    """

    def __init__(self, source: str, kind: str):
        self.source, self.kind = source, kind
        self.splits = _load(source, kind)

    @property
    def fingerprint(self) -> str:
        """Changes with the files of a local source; a source on the Hub is known by its name alone."""
        root = Path(self.source)
        files = sorted(path for path in (root.rglob("*") if root.is_dir() else [root]) if path.is_file())
        stats = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
        return hashlib.sha256(json.dumps([self.source, self.kind, stats]).encode()).hexdigest()

    def __iter__(self) -> Iterator[ClipSpec]:
        seen = set[str]()
        for split, stream in self.splits.items():
            features = (stream.features or {}).items()
            named = {name: feature.int2str for name, feature in features if isinstance(feature, ClassLabel)}
            for number, row in enumerate(stream):
                clip = _clip(row, named, split, f"{self.source}, {split}, row {number}", f"{split}-{number}")
                if clip.clip_id in seen:
                    raise SourceError(f"{self.source} has two clips called {clip.clip_id!r}: rename one")
                seen.add(clip.clip_id)
                yield clip


Clips = Sequence[ClipSpec] | ClipStream


def _load(source: str, kind: str) -> dict[str, IterableDataset]:
    path = Path(source)
    where = {"data_dir": source} if path.is_dir() else {"data_files": source}
    try:
        loaded = load_dataset(source, streaming=True) if kind == "hub" else load_dataset(kind, **where, streaming=True)
    except (OSError, ValueError) as error:
        raise SourceError(f"{source} cannot be read as {kind}: {error}") from error
    splits = loaded if isinstance(loaded, IterableDatasetDict) else {"train": loaded}
    return {str(name): _undecoded(stream) for name, stream in splits.items()}


def _undecoded(stream: IterableDataset) -> IterableDataset:
    for name, feature in dict(stream.features or {}).items():
        if isinstance(feature, (Audio, Video)):
            stream = stream.cast_column(name, Video(decode=False))
    return stream


def _clip(
    row: Mapping[str, Any], named: Mapping[str, Callable[[int], str]], split: str, where: str, name: str
) -> ClipSpec:
    said = {"clip_id": name}
    media: dict[str, Media] = {}
    more = row.get("json")  # webdataset's place for everything that is no media
    for column, value in {**row, **(more if isinstance(more, Mapping) else {})}.items():
        if value is None:
            continue
        if column in MEDIA_COLUMNS:
            media["audio" if column in SOUND_COLUMNS else "video"] = _media(value, where, column)
        else:
            said[COLUMN_ALIASES.get(column, column)] = named[column](value) if column in named else value
    if not media:
        expected = ", ".join(sorted(MEDIA_COLUMNS))
        raise SourceError(f"{where} has none of the columns {expected}: rename the one that holds media")
    fields = {"split": split} | describe(said, where) | media
    return ClipSpec(str(said["clip_id"]), str(said.get("track_id", said["clip_id"])), **fields)


def _media(value: Any, where: str, column: str) -> Media:
    """A column's value: bytes, a path or address, or `datasets`' record of both."""
    record = value if isinstance(value, Mapping) else {"path" if isinstance(value, str) else "bytes": value}
    path, data = record.get("path"), record.get("bytes")
    if isinstance(data, bytes):
        return Blob(f"{where}::{path or f'clip.{column}'}", data)
    if not isinstance(path, str):
        raise SourceError(f"{where}: column {column} holds neither bytes nor a path, but {type(value).__name__}")
    if Path(path).exists():
        return path
    try:
        with fsspec.open(path) as file:
            return Blob(path, file.read())
    except (OSError, ValueError) as error:
        raise SourceError(f"{where}: {column} = {path!r} cannot be read ({error}): correct the row") from error
