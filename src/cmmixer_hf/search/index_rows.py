"""Rows of an index, one an item: where it is, what is known of it, and its embeddings.

The schema is the same whatever metadata a library has: it is kept as JSON, and once more as `key=value` strings, the
facets, which filters compare. An index may therefore grow by items that have other metadata.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from ..data.prepared_clips import SourceError
from ..models.similarity import pool_segments

Vectors = npt.NDArray[np.float32]
Precision = Literal["float16", "int8", "float32"]
# How segments are kept. int8 keeps the direction alone, which is all there is to a vector of length 1.
PRECISIONS: dict[str, pa.DataType] = {"float16": pa.float16(), "int8": pa.int8(), "float32": pa.float32()}
LENGTH_TOLERANCE = 0.05  # half precision moves a length by less
# Key → values and `Interval`s, any of which will do; all keys must be met.
Where = Mapping[str, Sequence[Any]]

POOLED, SEGMENTS = "pooled_embeds", "segment_embeds"
PLACE = ("path", "start", "end")
MEASURED = "measured"  # metadata read or measured from the file; the library's own metadata override it


@dataclass(frozen=True)
class Candidates:
    """Rows that may answer a query.

    Args:
        segments: their segment embeddings, (rows, K, size), each of length 1.
        files: (rows,) the same number for rows of one path; a row without a path has one of its own.
        place: number of a row → its `path`, `start`, `end` and `stamp`; `metadata` its metadata (JSON). Both are read
            only for rows that are returned.
    """

    segments: Tensor
    files: npt.NDArray[np.int64]
    place: Callable[[int], tuple[Any, ...]]
    metadata: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.files)

    def item(self, number: int) -> dict[str, Any]:
        """The item of one of the rows; a place that is not known is left out."""
        place = zip(PLACE, self.place(number), strict=False)
        return known(json.loads(self.metadata(number))) | {key: value for key, value in place if value is not None}


def row_schema(num_segments: int, size: int, precision: Precision = "float16") -> pa.Schema:
    """Columns of rows whose embeddings are (num_segments, size).

    Raises:
        ValueError: there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}")
    return pa.schema(
        [
            ("path", pa.string()),
            ("start", pa.float64()),  # seconds; null for a whole file
            ("end", pa.float64()),
            ("stamp", pa.string()),  # of the file when it was embedded, see `library.py`
            ("metadata", pa.string()),  # JSON
            ("facets", pa.list_(pa.string())),
            (POOLED, pa.list_(pa.float32() if precision == "float32" else pa.float16(), size)),
            (SEGMENTS, pa.list_(PRECISIONS[precision], num_segments * size)),
        ]
    )


def make_rows(
    items: Sequence[Mapping[str, Any]],
    segment_embeds: Tensor,
    stamps: Sequence[str] | None = None,
    precision: Precision = "float16",
) -> pa.Table:
    """Items with their embeddings as rows.

    Args:
        items: `path`, `start` and `end` where known; everything else is metadata.
        segment_embeds: (items, K, size), L2-normalised.
        stamps: of the items' files, by which changes are detected.
        precision: of the segments in memory and on disk.

    Raises:
        SourceError: an embedding is not finite.
    """
    embeds = segment_embeds.detach().float().cpu().contiguous()
    check_embeddings(embeds, [item.get("path") or item.get("title") or item for item in items])
    count, num_segments, size = embeds.shape
    schema = row_schema(num_segments, size, precision)
    metadata = [metadata_json({key: value for key, value in item.items() if key not in PLACE}) for item in items]
    return pa.table(
        {
            **{name: [item.get(name) for item in items] for name in PLACE},
            "stamp": [None] * count if stamps is None else list(stamps),
            "metadata": metadata,
            "facets": [facets(json.loads(values)) for values in metadata],
            POOLED: _vectors(pool(embeds), schema.field(POOLED).type),
            SEGMENTS: _vectors(embeds, schema.field(SEGMENTS).type),
        },
        schema=schema,
    )


def check_embeddings(embeds: Tensor, names: Sequence[object]) -> None:
    """Refuse embeddings (items, K, size) that hold a NaN or an infinity, which would rank first for every query, or
    are not of length 1, which would rank by their length.

    Raises:
        SourceError: names the first of them.
    """
    broken = ~embeds.flatten(1).isfinite().all(1)
    if broken.any():
        name = names[int(broken.nonzero()[0])]
        raise SourceError(
            f"the model gives {name} an embedding that holds NaN or infinite values: its weights are damaged, or its "
            "number format too narrow; take another checkpoint, or float32"
        )
    lengths = embeds.norm(dim=-1)
    if (astray := (lengths - 1).abs().amax(1) > LENGTH_TOLERANCE).any():
        number = int(astray.nonzero()[0])
        raise SourceError(
            f"the embeddings of {names[number]} have lengths {lengths[number].min():.2f} to "
            f"{lengths[number].max():.2f}: L2-normalise them"
        )


def with_precision(rows: pa.Table, num_segments: int, precision: Precision) -> pa.Table:
    """The same rows, their embeddings kept in another way."""
    schema = row_schema(num_segments, rows.schema.field(POOLED).type.list_size, precision)
    for place, name in enumerate(schema.names):
        if rows.schema.field(name).type != schema.field(name).type:
            flat = matrix(rows[name].combine_chunks())
            vectors = unpack_segments(torch.from_numpy(flat.copy()), num_segments if name == SEGMENTS else 1)
            rows = rows.set_column(place, schema.field(name), _vectors(vectors, schema.field(name).type))
    return rows


def metadata_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as a row keeps it; values that JSON cannot represent become strings."""
    return json.dumps(metadata, ensure_ascii=False, default=str)


def relabel(rows: pa.Table, metadata: Mapping[str, str]) -> pa.Table:
    """The rows of the paths that are named, with other metadata (JSON)."""
    rows = rows.filter(pc.is_in(rows["path"], pa.array(list(metadata), pa.string())))
    texts = [metadata[path] for path in rows["path"].to_pylist()]
    columns = {"metadata": texts, "facets": [facets(json.loads(text)) for text in texts]}
    for name, values in columns.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), pa.array(values, rows.schema.field(name).type))
    return rows


def known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All metadata of an item, on one level: measured values, overridden by those of the library.

    >>> known({"title": "Ode", "measured": {"title": "track01", "bpm": 92.3}})
    {'title': 'Ode', 'bpm': 92.3}
    """
    return {**metadata.get(MEASURED, {}), **{key: value for key, value in metadata.items() if key != MEASURED}}


def number_files(paths: pa.StringArray | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A number for every row, (rows,), equal where the paths are; a row without one gets one of its own, below 0.

    >>> number_files(pa.array(["a", "b", None, "a", None])).tolist()
    [0, 1, -3, 0, -5]
    """
    numbers = pc.fill_null(pc.index_in(paths, pc.unique(paths).drop_null()), -1).to_numpy().astype(np.int64)
    return np.where(numbers < 0, -1 - np.arange(len(numbers)), numbers)


def row_segments(rows: pa.Table, num_segments: int) -> Tensor:
    """Segment embeddings of rows, (rows, K, size) float32."""
    return unpack_segments(torch.from_numpy(matrix(rows[SEGMENTS].combine_chunks()).copy()), num_segments)


def unpack_segments(kept: Tensor, num_segments: int) -> Tensor:
    """Segments as they are kept, (rows, K * size) → as they are compared, float32, (rows, K, size)."""
    segments = kept.float().view(len(kept), num_segments, kept.shape[1] // num_segments)
    return nn.functional.normalize(segments, dim=-1) if kept.dtype == torch.int8 else segments


def matrix(chunk: pa.FixedSizeListArray) -> npt.NDArray[Any]:
    """A chunk of vectors as (rows, size), without a copy, in the precision that they are kept in."""
    return chunk.flatten().to_numpy().reshape(len(chunk), chunk.type.list_size)


def pool(segment_embeds: Tensor) -> Tensor:
    """One vector a clip, (clips, K, size) → (clips, size), as [`pool_segments`] makes it."""
    return pool_segments(segment_embeds)[:, 0]


def facets(metadata: Mapping[str, Any]) -> list[str]:
    """The facets that a filter matches: `key=value` for each value, and for each member of a list.

    >>> facets({"title": "Ode", "year": 1824, "tags": ["choir", "loud"], "label": None})
    ['title=Ode', 'year=1824', 'tags=choir', 'tags=loud']
    """
    values = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in known(metadata).items()}
    return [f"{key}={value}" for key, members in values.items() for value in members if value is not None]


def _vectors(vectors: Tensor, kind: pa.FixedSizeListType) -> pa.FixedSizeListArray:
    """Vectors (..., size) as a column of that type; int8 takes the largest number of each vector as 127."""
    if kind.value_type == pa.int8():
        largest = vectors.abs().amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
        vectors = (vectors * (127 / largest)).round()
    flat = vectors.flatten().numpy().astype(kind.value_type.to_pandas_dtype())
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), kind.list_size)
