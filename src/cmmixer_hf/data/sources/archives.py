"""Files that hold media: tars in the manner of webdataset, and Parquet; row by row, as far as they are intact."""

import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby
from lzma import LZMAError
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Features

from ..clips import MEDIA_SUFFIXES, SOUND_SUFFIXES, Blob
from .folders import is_visible
from .manifests import COLUMN_NAMES
from .tables import TableRow, parse_json

READ_ERRORS = (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError, ValueError, LookupError, pa.ArrowException)
BATCH = 8  # rows of a Parquet file in memory
CLASS, KEY = "cls", "clip_id"  # webdataset's name of a class's number; the column that a sample's name becomes


def tar_rows(path: Path) -> Iterator[TableRow]:
    """Samples of a tar: neighbours whose names are equal up to the first dot, as `clip1.mp4` and `clip1.json`.

    Several pictures, or several sounds, of that name are samples of their own, as `clip1.left.mp4` and
    `clip1.right.mp4`. A tar that breaks off ends in a row with an error.
    """
    count = 0
    try:
        with tarfile.open(path, "r|*") as tar:
            for key, members in groupby(_members(tar), key=itemgetter(0)):
                for row in _samples(path, key, {field: data for _, field, data in members}):
                    count += 1
                    yield row
    except READ_ERRORS as error:
        yield TableRow(f"{path}, after {count} clips", error=f"the tar breaks off ({error}); fetch it again")


def parquet_rows(path: Path) -> Iterator[TableRow]:
    """Rows of a Parquet file, numbers of classes as their names; where it is damaged, a row with an error."""
    number = -1
    try:
        file = pq.ParquetFile(path)
        names = class_columns(Features.from_arrow_schema(file.schema_arrow))
        for batch in file.iter_batches(BATCH):
            for place in range(len(batch)):
                number += 1
                yield _parquet_row(batch.slice(place, 1), names, f"{path}, row {number}")
    except READ_ERRORS as error:
        yield TableRow(f"{path}, after {number + 1} rows", error=f"cannot be read as Parquet ({error}); fetch it again")


def named_classes(row: Mapping[str, Any], names: Mapping[str, Callable[[int], str]]) -> dict[str, Any]:
    """A row with the names of its classes; -1 stands for none. Raises ValueError where there is no such class."""
    known = {
        column: name(row[column]) if row[column] >= 0 else None
        for column, name in names.items()
        if row[column] is not None
    }
    return {**row, **known}


def class_columns(features: Mapping[str, Any]) -> dict[str, Callable[[int], str]]:
    """The columns of numbers of classes, each with what names them."""
    return {name: feature.int2str for name, feature in features.items() if isinstance(feature, ClassLabel)}


def _members(tar: tarfile.TarFile) -> Iterator[tuple[str, str, bytes]]:
    """(name up to the first dot, the rest in lower case, content) of all files that a row can use."""
    for member in tar:
        place = PurePosixPath(member.name)
        if not member.isfile() or not all(map(is_visible, place.parts)):
            continue
        key, _, field = place.name.partition(".")
        useful = place.suffix.lower() in MEDIA_SUFFIXES or _kind(field.lower()) in {"json", CLASS, *COLUMN_NAMES}
        file = tar.extractfile(member) if useful else None
        yield str(place.with_name(key)), field.lower(), file.read() if file else b""


def _samples(path: Path, key: str, fields: Mapping[str, bytes]) -> Iterator[TableRow]:
    """One row, or one for each picture where there are several."""
    where = f"{path}::{key}"
    media = {
        field: Blob(f"{where}.{field}", data) for field, data in fields.items() if _suffix(field) in MEDIA_SUFFIXES
    }
    sounds = [field for field in media if _suffix(field) in SOUND_SUFFIXES]
    try:
        about = {KEY: key} | _about(fields)
    except ValueError as error:
        yield TableRow(where, error=f"what it says of itself cannot be read: {error!s:.200}")
        return
    if len(sounds) <= 1 and len(media) - len(sounds) <= 1:
        yield TableRow(where, about | {_kind(field): blob for field, blob in media.items()})
        return
    for field, blob in media.items():
        yield TableRow(blob.name, about | {KEY: f"{key}.{field.rpartition('.')[0] or field}", _kind(field): blob})


def _about(fields: Mapping[str, bytes]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    for field, data in fields.items():
        kind = _kind(field)
        if kind == "json":
            value = parse_json(data)
            if not isinstance(value, dict):
                raise ValueError(f"its JSON is no object, but {value!r:.40}")
            about |= value
        elif kind == CLASS or (kind in COLUMN_NAMES and _suffix(field) not in MEDIA_SUFFIXES):
            about["label" if kind == CLASS else kind] = data.decode().strip()
    return about


def _suffix(field: str) -> str:
    return f".{_kind(field)}"


def _kind(field: str) -> str:
    return field.rpartition(".")[2]


def _parquet_row(row: pa.RecordBatch, names: Mapping[str, Callable[[int], str]], where: str) -> TableRow:
    try:
        return TableRow(where, named_classes(row.to_pylist()[0], names))
    except (*READ_ERRORS, TypeError) as error:
        return TableRow(where, error=f"it cannot be read ({error!s:.200}); correct the row")
