"""Inputs of the processor: paths, bytes, open files, and the records of `datasets`' columns."""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def read_media(value: Any, read: Callable[[str | os.PathLike[str]], Any]) -> Any:
    """Apply `read` to the path of one media file or of each in a list; anything else is returned unchanged.

    Args:
        value: a path, bytes, an open binary file, or a record `{"bytes", "path"}` (a `Video` or `Audio` column with
            `decode=False`); or a list of these.
        read: called with a path.

    Raises:
        ValueError: a list holds files and something else.
    """
    if is_media(value):
        return [_read_one(value, read)]
    if not isinstance(value, (list, tuple)) or not any(map(is_media, value)):
        return value
    if strange := [type(item).__name__ for item in value if not is_media(item)]:
        raise ValueError(f"a list with a file in it must hold files alone, got {strange[0]} beside: read that first")
    return [_read_one(item, read) for item in value]


def is_media(value: Any) -> bool:
    """Whether a value is a media file, as [`read_media`] takes it."""
    record = isinstance(value, dict) and bool(value.get("bytes") or value.get("path"))
    return record or isinstance(value, (str, os.PathLike, bytes, bytearray, io.IOBase))


def waveform_records(value: Any) -> tuple[Any, int | None]:
    """Records `{"array", "sampling_rate"}` of an `Audio` column → their arrays and rate; anything else, and None.

    Raises ValueError where their rates differ.
    """
    records = value if isinstance(value, (list, tuple)) else [value]
    if not records or not all(isinstance(record, dict) and "array" in record for record in records):
        return value, None
    rates = {record.get("sampling_rate") for record in records}
    if len(rates) > 1:
        raise ValueError(f"sounds of one call must have one sampling rate, got {sorted(map(str, rates))}")
    arrays = [record["array"] for record in records]
    return (arrays if isinstance(value, (list, tuple)) else arrays[0]), rates.pop()


def _read_one(value: Any, read: Callable[[str | os.PathLike[str]], Any]) -> Any:
    with _as_path(value) as path:
        return read(path)


@contextmanager
def _as_path(value: Any) -> Iterator[str | os.PathLike[str]]:
    if isinstance(value, dict):
        value = value.get("bytes") or value["path"]
    if isinstance(value, (str, os.PathLike)):
        yield value
        return
    with tempfile.TemporaryDirectory(prefix="cmmixer-") as folder:
        path = os.path.join(folder, "clip")
        with open(path, "wb") as file:
            file.write(value.read() if isinstance(value, io.IOBase) else value)
        yield path
