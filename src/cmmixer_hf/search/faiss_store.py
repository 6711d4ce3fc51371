"""Rows in Arrow files of a folder, mapped into memory; FAISS finds candidates by their pooled vectors.

No file is ever changed: an update writes new ones beside the old. Which of them count stands in the index's one JSON
file, which is replaced in one step, so that a reader or a kill finds the old state or the new one, never half of each.
"""

import hashlib
import os
import uuid
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ..files import atomic_file
from .facet_columns import FacetColumns
from .index_facts import DamagedIndexError
from .index_rows import PLACE, POOLED, SEGMENTS, Candidates, Vectors, Where, matrix, number_files, unpack_segments

ROWS_PER_PART = 4096
# A file's digest covers its size and this many blocks of it, evenly spread: all of a small file, and quick for one of
# gigabytes; the last block detects a file that a full disk or a broken copy cut short.
BLOCKS, BLOCK_BYTES = 16, 1 << 12
INDEX_TYPES = ("flat", "ivf", "hnsw")
# FAISS wants so many vectors for each list of an inverted file; a share of the lists is searched, but at least so many.
VECTORS_PER_LIST, SEARCHED_SHARE, SEARCHED_LISTS = 39, 1 / 16, 64
NEIGHBOURS, BUILD_BREADTH, SEARCH_BREADTH = 32, 80, 256  # of the HNSW graph
TRAINING_VECTORS_PER_LIST = 64
# Several queries at once are compared with all rows by matrix products, so many scores and rows at a time.
SCORES_AT_ONCE, ROWS_AT_ONCE = 1 << 26, 1 << 10


class FaissStore:
    """Rows and a FAISS index of their pooled vectors.

    Args:
        rows: as `index_rows.make_rows` makes them.
        index: of FAISS, with the rows in their order.
    """

    def __init__(self, rows: pa.Table, index: Any):
        self.rows = rows
        self._index = index
        self._facets = FacetColumns(rows)
        self._segments = [matrix(chunk) for chunk in rows[SEGMENTS].chunks]
        self._starts = np.cumsum([0, *map(len, self._segments)])
        self._num_segments = rows.schema.field(SEGMENTS).type.list_size // rows.schema.field(POOLED).type.list_size
        self._texts = {name: rows[name].chunks for name in (*PLACE, "stamp", "metadata")}

    @classmethod
    def from_rows(cls, rows: pa.Table, index_type: str = "flat") -> "FaissStore":
        """Index rows: `"flat"` compares a query with all of them, `"ivf"` and `"hnsw"` with few, and may miss some."""
        return cls(rows, _build(rows, index_type))

    @classmethod
    def open(cls, folder: Path, files: Mapping[str, Any]) -> "FaissStore":
        """Open the store whose description, by [`save`] or [`update`], is `files`.

        Raises:
            DamagedIndexError: a file is missing, or is not the one that was written.
        """
        damaged = [name for name, facts in files.items() if file_facts(folder / name) != facts]
        if damaged:
            names = f"{damaged[0]}{f' and {len(damaged) - 1} others' if len(damaged) > 1 else ''}"
            raise DamagedIndexError(
                f"{folder} is damaged, {names} is not the file that was written: delete the folder and build it again"
            )
        parts = [name for name in files if name.endswith(".arrow")]
        (vectors,) = (name for name in files if name.endswith(".faiss"))
        module = _faiss()
        index = module.read_index(str(folder / vectors), module.IO_FLAG_MMAP_IFC)
        return cls(pa.concat_tables(read_part(folder / name) for name in parts), index)

    def __len__(self) -> int:
        return len(self.rows)

    def candidates(self, pooled: Vectors, k: int, where: Where) -> Iterator[Candidates]:
        """For each query (queries, size) the `k` rows with the most similar pooled vectors that meet the filter.

        Filtered queries are exact, and so are those for which an approximate index finds too few: where `k` rows exist,
        `k` are returned.
        """
        k = min(k, len(self))
        mask = self._facets.matching(where) if where else None
        for query, nearest in zip(pooled, self._nearest(pooled, k, mask), strict=True):
            places = nearest[nearest >= 0]
            if mask is None and len(places) < k:
                places = self._exact(query[None], k, None)[0]
            yield self._candidates(places)

    def _nearest(self, pooled: Vectors, k: int, mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        """Places (queries, k), best first; −1 where there are fewer."""
        if mask is not None:
            return self._exact(pooled, k, mask)
        half = half_vectors(self._index) if len(pooled) > 1 else None
        return self._index.search(pooled, k)[1] if half is None else most_similar(pooled, half, k)

    def _exact(self, pooled: Vectors, k: int, mask: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.int64]:
        """The best of all rows, or of those in `mask`, whatever the type of the index."""
        module = _faiss()
        index = module.downcast_index(getattr(self._index, "storage", self._index))
        settings = {"nprobe": index.nlist} if hasattr(index, "nlist") else {}
        if mask is not None:
            settings["sel"] = module.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        kind = module.SearchParametersIVF if hasattr(index, "nlist") else module.SearchParameters
        return index.search(pooled, k, params=kind(**settings))[1]

    def _candidates(self, places: npt.NDArray[np.int64]) -> Candidates:
        places = np.sort(places)
        bounds = np.searchsorted(places, self._starts).tolist()
        kept = np.empty((len(places), self._segments[0].shape[1]), self._segments[0].dtype)
        for part, (first, last) in enumerate(pairwise(bounds)):
            if first < last:
                rows = places[first:last] - self._starts[part]
                np.take(self._segments[part], rows, axis=0, out=kept[first:last], mode="clip")

        def place(number: int, names: Sequence[str] = (*PLACE, "stamp")) -> tuple[Any, ...]:
            part = bisect_right(bounds, number) - 1
            row = int(places[number] - self._starts[part])
            return tuple([self._texts[name][part][row].as_py() for name in names])

        return Candidates(
            unpack_segments(torch.from_numpy(kept), self._num_segments),
            self._files[places],
            place,
            lambda number: place(number, ("metadata",))[0],
        )

    @cached_property
    def _files(self) -> npt.NDArray[np.int64]:
        return number_files(self.rows["path"])

    def files(self) -> dict[str, tuple[str, str]]:
        """Stamp and metadata (JSON) of every file that has rows, by its path."""
        path, *known = (self.rows[name].to_pylist() for name in ("path", "stamp", "metadata"))
        return dict(zip(path, zip(*known, strict=True), strict=True))

    def tables(self, paths: AbstractSet[str]) -> Iterator[pa.Table]:
        """The rows of some files."""
        wanted = pa.array(sorted(paths), pa.string())
        for batch in self.rows.to_batches():
            yield pa.table(batch).filter(pc.is_in(batch["path"], wanted))

    def close(self) -> None:
        """Nothing to release: files are mapped, not open."""

    def save(self, folder: Path) -> dict[str, Any]:
        """Write everything into a folder; its description, for [`open`]."""
        return self._write_index(folder, _write_parts(folder, [self.rows]))

    def _write_index(self, folder: Path, names: Iterable[str]) -> dict[str, Any]:
        name = f"pooled-{uuid.uuid4().hex[:12]}.faiss"
        with atomic_file(folder / name) as partial:
            _faiss().write_index(self._index, str(partial))
        return {name: file_facts(folder / name) for name in (*names, name)}


def half_vectors(index: Any) -> Tensor | None:
    """The vectors of an exact index (rows, size), float16, without a copy; `None` where it keeps them otherwise."""
    module = _faiss()
    if not isinstance(index, module.IndexScalarQuantizer) or index.sq.qtype != module.ScalarQuantizer.QT_fp16:
        return None
    codes = module.rev_swig_ptr(index.codes.data(), index.ntotal * index.code_size)
    return torch.from_numpy(codes.view(np.float16).reshape(index.ntotal, index.d))


def most_similar(pooled: Vectors, vectors: Tensor, k: int) -> npt.NDArray[np.int64]:
    """Places (queries, k) of the greatest products with vectors (rows, size); for many queries at once."""
    queries = torch.from_numpy(pooled).float()
    step = max(1, SCORES_AT_ONCE // len(vectors))
    return torch.cat([_products(part, vectors).topk(k, sorted=False).indices for part in queries.split(step)]).numpy()


def _products(queries: Tensor, vectors: Tensor) -> Tensor:
    """(queries, rows), of so many rows at a time that they stay in the processor's cache."""
    scores = torch.empty(len(queries), len(vectors))
    for block, target in zip(vectors.split(ROWS_AT_ONCE), scores.split(ROWS_AT_ONCE, 1), strict=True):
        target.copy_(queries @ block.float().T)
    return scores


def update(
    folder: Path, files: Mapping[str, Any], new: Iterable[pa.Table], drop: AbstractSet[str], index_type: str
) -> dict[str, Any]:
    """Add rows to a folder's, without those whose path is in `drop`; the description of what then counts.

    Parts that are full and keep all their rows stay as they are. The files that `files` describes are not changed.
    """
    full, loose = [], []
    for name in files:
        if name.endswith(".arrow"):
            rows = read_part(folder / name)
            kept = _without(rows, drop)
            if len(kept) == len(rows) >= ROWS_PER_PART:
                full.append(name)
            else:
                loose.append(kept)
    names = [*full, *_write_parts(folder, chain(loose, new))]
    rows = pa.concat_tables(read_part(folder / name) for name in names)
    return FaissStore.from_rows(rows, index_type)._write_index(folder, names)


def sweep(folder: Path, files: Mapping[str, Any]) -> None:
    """Delete what earlier or killed updates left in a folder, except for `files`."""
    for pattern in ("part-*.arrow", "pooled-*.faiss", ".part-*.partial-*", ".pooled-*.partial-*"):
        for path in folder.glob(pattern):
            if path.name not in files:
                path.unlink()


def write_part(folder: Path, rows: pa.Table) -> str:
    """Write rows to a new file of a folder, whole or not at all; its name."""
    name = f"part-{uuid.uuid4().hex[:12]}.arrow"
    with atomic_file(folder / name) as partial, pa.ipc.new_file(str(partial), rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return name


def read_part(path: Path) -> pa.Table:
    """Rows of a file, mapped into memory."""
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def file_facts(path: Path) -> list[int | str] | None:
    """Size and digest of a file (of blocks that are spread over it, where it is large); `None` where it is missing."""
    if not path.is_file():
        return None
    size = path.stat().st_size
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= BLOCKS * BLOCK_BYTES:
            digest.update(file.read())
        else:
            for start in np.linspace(0, size - BLOCK_BYTES, BLOCKS).astype(int):
                digest.update(os.pread(file.fileno(), BLOCK_BYTES, int(start)))
    return [size, digest.hexdigest()]


def _write_parts(folder: Path, tables: Iterable[pa.Table]) -> list[str]:
    """Write rows as files of `ROWS_PER_PART` each, the last one excepted; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) >= ROWS_PER_PART:
            rows = pa.concat_tables(waiting)
            names.append(write_part(folder, rows.slice(0, ROWS_PER_PART)))
            waiting = [rows.slice(ROWS_PER_PART)]
    rest = pa.concat_tables(waiting)
    return [*names, write_part(folder, rest)] if len(rest) else names


def _without(rows: pa.Table, drop: AbstractSet[str]) -> pa.Table:
    dropped = pc.is_in(rows["path"], pa.array(sorted(drop), pa.string()))
    return rows.filter(pc.invert(dropped)) if pc.any(dropped).as_py() else rows


def _build(rows: pa.Table, index_type: str) -> Any:
    """A FAISS index of the rows' pooled vectors, kept as float16."""
    module = _faiss()
    size = rows.schema.field(POOLED).type.list_size
    if index_type == "flat":
        index = module.index_factory(size, "SQfp16", module.METRIC_INNER_PRODUCT)
    elif index_type == "hnsw":
        index = module.index_factory(size, f"HNSW{NEIGHBOURS},SQfp16", module.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = BUILD_BREADTH, SEARCH_BREADTH
    elif index_type == "ivf":
        lists = max(1, min(round(4 * len(rows) ** 0.5), len(rows) // VECTORS_PER_LIST))
        index = module.index_factory(size, f"IVF{lists},SQfp16", module.METRIC_INNER_PRODUCT)
        index.by_residual = False  # float16 is exact enough for whole vectors, and then the same in every type
        index.train(_sample(rows, lists * TRAINING_VECTORS_PER_LIST))
        index.nprobe = max(SEARCHED_LISTS, round(SEARCHED_SHARE * lists))
    else:
        raise ValueError(f"index_type must be one of {', '.join(INDEX_TYPES)}, got {index_type!r}")
    for chunk in rows[POOLED].chunks:
        index.add(matrix(chunk).astype(np.float32))
    return index


def _sample(rows: pa.Table, count: int) -> Vectors:
    """Evenly spaced pooled vectors: the first ones would be those of the first folders alone."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    return np.concatenate([matrix(chunk) for chunk in rows[POOLED].take(places).chunks]).astype(np.float32)


def _faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise ImportError('the index needs FAISS: pip install "cmmixer_hf[index]"') from error
    return faiss
