"""Prepared Parquet shards as a map-style dataset that reads a clip when it is asked for it, and nothing before."""

import json
import logging
import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, overload

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from ..media.reading import Sampling

MOST_OPEN = 256  # shards at a time, for systems that allow a process 1024 files
OPENING_THREADS = 16  # a remote shard takes some round trips to open
Integers = npt.NDArray[np.int64]
Row = Mapping[str, Any]


class SourceError(ValueError):
    """A source of clips cannot be used as a whole; the message says what to do."""


class PreparedClips:
    """The usable clips of prepared shards: `clips[3]` is a row, `clips["path"]` a column.

    Opening reads the footers and the column `error`; a clip is read when it is asked for, one row group of a
    memory-mapped file. Shards with one row group a clip are therefore fast in any order; larger row groups work and are
    read as a whole, once for rows that are asked for together. Workers of a loader open their own files.

    Args:
        paths: the shards, local paths or URLs that fsspec knows (`hf://`, `s3://`).

    Example:

        clips = load_prepared("prepared")
        training = clips.select_where("split", "train")
    """

    def __init__(self, paths: Sequence[str]):
        self._files = _Shards(paths)
        with ThreadPoolExecutor(OPENING_THREADS) as pool:
            usable = list(pool.map(self._files.usable_rows, range(len(paths))))
        self._shards = np.repeat(np.arange(len(usable)), [len(rows) for rows in usable])
        self._rows = np.concatenate([np.empty(0, np.int64), *usable])
        self._columns = self._files[0].file.schema_arrow.names

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, key: str) -> list[Any]: ...

    def __getitem__(self, key: int | str) -> dict[str, Any] | list[Any]:
        """A clip's row by its place, or a column by its name. Raises TypeError for several places."""
        if not isinstance(key, (int, np.integer, str)):
            kind = type(key).__name__
            raise TypeError(
                f"a clip is asked for by its place, or a column by its name, got {kind}: select() takes more"
            )
        return self._column(key) if isinstance(key, str) else self.__getitems__([key])[0]

    def __getitems__(self, places: Sequence[int]) -> list[dict[str, Any]]:
        """Several rows; every row group that they lie in is read once."""
        rows: list[dict[str, Any]] = [{}] * len(places)
        read, table = None, pa.table({})
        for shard, row, slot in sorted((self._shards[place], self._rows[place], i) for i, place in enumerate(places)):
            group, row = self._files[shard].locate(row)
            if (shard, group) != read:
                table = self._files[shard].file.read_row_group(group, self._columns, use_threads=False)
                read = shard, group
            (rows[slot],) = table.slice(row, 1).to_pylist()
        return rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[place] for place in range(len(self)))

    @property
    def column_names(self) -> list[str]:
        """Columns that a row has."""
        return list(self._columns)

    @property
    def shard_sizes(self) -> list[int]:
        """Clips that lie side by side in one shard, for an order that reads shard after shard."""
        return np.diff(np.flatnonzero(np.diff(self._shards, prepend=-1, append=-1))).tolist()

    def select(self, places: Sequence[int] | Integers) -> "PreparedClips":
        """The clips at these places, in this order."""
        chosen = self._copy()
        chosen._shards, chosen._rows = self._shards[places], self._rows[places]
        return chosen

    def select_where(self, column: str, value: Any) -> "PreparedClips":
        """The clips that have this value in a column, such as those of a split or of a fold.

        Raises:
            SourceError: none has; the message says which values there are.
        """
        values = self._column(column)
        places = [place for place, own in enumerate(values) if own == value]
        if not places:
            there = ", ".join(sorted({repr(own) for own in values if own is not None}))
            advice = f"they have {there}" if there else f"none has any {column}: give each one when preparing them"
            raise SourceError(f"none of {len(values)} clips has {column} {value!r}: {advice}")
        return self.select(places)

    def select_columns(self, names: Sequence[str]) -> "PreparedClips":
        """The same clips with these columns alone; what is left out is not read.

        Raises:
            ValueError: the shards have no such column.
        """
        if unknown := sorted(set(names) - set(self._columns)):
            raise ValueError(f"the shards have the columns {self._columns}, got {unknown}")
        chosen = self._copy()
        chosen._columns = list(names)
        return chosen

    def _copy(self) -> "PreparedClips":
        chosen = object.__new__(PreparedClips)
        chosen.__dict__ |= self.__dict__
        return chosen

    def _column(self, name: str) -> list[Any]:
        columns = {shard: self._files[shard].column(name) for shard in np.unique(self._shards)}
        return [columns[shard][row] for shard, row in zip(self._shards, self._rows, strict=True)]


class _Shard:
    """One open file."""

    def __init__(self, url: str):
        filesystem, path = fsspec.core.url_to_fs(url)
        local = isinstance(filesystem, LocalFileSystem)
        self.file = pq.ParquetFile(path, memory_map=True) if local else pq.ParquetFile(filesystem.open(path))
        metadata = self.file.metadata
        self.ends = np.cumsum([metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)])

    def locate(self, row: int) -> tuple[int, int]:
        """The row group that holds a row, and the row's place in it."""
        group = int(np.searchsorted(self.ends, row, side="right"))
        return group, int(row - (self.ends[group - 1] if group else 0))

    def column(self, name: str) -> list[Any]:
        return self.file.read([name], use_threads=False)[name].to_pylist()


class _Shards:
    """Open files by their number, the last [`MOST_OPEN`] of them; each process opens its own."""

    def __init__(self, urls: Sequence[str]):
        self.urls = list(urls)
        self._open: OrderedDict[int, _Shard] = OrderedDict()
        self._owner = os.getpid()

    def __reduce__(self) -> tuple[type, tuple[list[str]]]:
        return type(self), (self.urls,)

    def __getitem__(self, number: int) -> _Shard:
        if self._owner != os.getpid():  # a fork would share the positions in its parent's files
            self._open, self._owner = OrderedDict(), os.getpid()
        shard = self._open.pop(number, None) or _Shard(self.urls[number])
        self._open[number] = shard
        if len(self._open) > MOST_OPEN:
            self._open.popitem(last=False)
        return shard

    def usable_rows(self, number: int) -> Integers:
        """Rows without an `error`; the file is closed again."""
        errors = _Shard(self.urls[number]).column("error")
        return np.array([row for row, error in enumerate(errors) if error is None], np.int64)


SHARD_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("path", pa.string()),
        ("audio_path", pa.string()),  # where the sound is not the video's own
        ("track_id", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("split", pa.string()),
        ("fold", pa.int32()),
        ("start", pa.float64()),  # seconds into the file
        ("audio_start", pa.float64()),  # the same for the sound
        ("duration", pa.float64()),
        ("damage", pa.int32()),  # packets and frames that were passed over, see `media.reading.Clip`
        ("num_segments", pa.int32()),
        ("frames", pa.list_(pa.binary())),
        ("frame_shape", pa.list_(pa.int32())),  # height, width
        ("frame_codec", pa.string()),  # "raw": height · width · 3 uint8; "jpeg"
        ("waveforms", pa.binary()),
        ("error", pa.string()),
    ]
)


def raw_row(clip_id: str, frames: npt.NDArray[np.uint8], waveforms: npt.NDArray[np.int16], **columns: Any) -> Row:
    """A clip of arrays as a row of prepared shards, for data that are made or read by other means.

    Args:
        frames: (K, height, width, 3) RGB.
        waveforms: (K, samples), at the rate that the extractor takes.
        columns: further ones of [`SHARD_SCHEMA`], such as `track_id`, `labels` or `duration`.

    >>> row = raw_row("a", np.zeros((2, 4, 6, 3), np.uint8), np.zeros((2, 100), np.int16), track_id="song")
    >>> row["frame_shape"], row["num_segments"], row["track_id"], row["split"]
    ([4, 6], 2, 'song', None)
    """
    if unknown := columns.keys() - set(SHARD_SCHEMA.names):
        raise ValueError(f"prepared clips have no column {', '.join(sorted(unknown))}; there are {SHARD_SCHEMA.names}")
    facts = {"clip_id": clip_id, "path": clip_id, "track_id": clip_id, "num_segments": len(frames)}
    pictures = {"frames": [frame.tobytes() for frame in frames], "frame_shape": list(frames.shape[1:3])}
    own = facts | pictures | {"frame_codec": "raw", "waveforms": waveforms.tobytes()}
    return dict.fromkeys(SHARD_SCHEMA.names) | own | columns


def load_prepared(folder: str | Path) -> PreparedClips:
    """The usable clips of prepared shards, as a map-style dataset that reads a clip when it is asked for it.

    Args:
        folder: what `cmmixer prepare` wrote, or a URL of a copy of it (`hf://datasets/USER/NAME`, `s3://…`).

    Raises:
        SourceError: the folder was never prepared, preparing it was not finished, or its URL cannot be reached.
    """
    count, there = _read_claim(str(folder))
    names = [shard_path(Path(), number).name for number in range(count)]
    if missing := [name for name in names if name not in there]:
        raise SourceError(f"{folder} is not finished, {missing[0]} is missing: run `cmmixer prepare` again to go on")
    return PreparedClips([f"{folder}/{name}" for name in names])


def warn_of_old_sampling(what: str, version: int) -> None:
    """Warn of what was made by an earlier version of this package, which read media files differently."""
    if version < Sampling.version:
        logging.getLogger(__name__).warning(
            "%s was made by an earlier version, which took the sound of several channels too loud and mirrored "
            "pictures as they are stored: make it again before comparing it with anything new",
            what,
        )


def _read_claim(folder: str) -> tuple[int, set[str]]:
    """How many shards a folder or URL is to have, and the names of all files that it has."""
    try:
        filesystem, root = fsspec.core.url_to_fs(folder)
        claim = json.loads(filesystem.cat_file(f"{root}/prepared.json"))
        if sampling := claim.get("recipe", {}).get("sampling"):
            warn_of_old_sampling(folder, sampling.get("version", 1))
        return claim["shards"], {Path(path).name for path in filesystem.ls(root, detail=False)}
    except (FileNotFoundError, NotADirectoryError) as error:
        private = "; a private one needs `hf auth login`, or what its store asks for" if "://" in folder else ""
        raise SourceError(f"{folder} holds no prepared clips: make them with `cmmixer prepare`{private}") from error
    except Exception as error:
        if "://" not in folder:
            raise
        reason = " ".join(str(error).split())  # each kind of store has errors of its own, some without a common base
        advice = "check the network, or download it once (`hf download`) and give the folder"
        raise SourceError(f"{folder} cannot be reached ({reason}): {advice}") from error


def shard_path(folder: Path, number: int) -> Path:
    """`part-00000.parquet` and so on."""
    return folder / f"part-{number:05d}.parquet"
