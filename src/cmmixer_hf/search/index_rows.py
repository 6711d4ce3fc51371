"""Rows of an index, one an item: where it is, what is known of it, and its embeddings.

The schema is the same whatever metadata a library has: it is kept as JSON, and once more as `key=value` strings, the
facets, which filters compare. An index may therefore grow by items that have other metadata.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from ..data.prepared_clips import SourceError
from .filters import Interval

Floats = npt.NDArray[np.float32]
# Key → values and `Interval`s, any of which will do; all keys must be met.
Where = Mapping[str, Sequence[Any]]

POOLED, SEGMENTS = "pooled_embeds", "segment_embeds"
PLACE = ("path", "start", "end")
MEASURED = "measured"  # the part of an item's metadata that its file tells, where nobody has said otherwise
A_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def row_schema(num_segments: int, size: int) -> pa.Schema:
    """Columns of rows whose embeddings are (num_segments, size)."""
    return pa.schema(
        [
            ("path", pa.string()),
            ("start", pa.float64()),  # seconds; null for a whole file
            ("end", pa.float64()),
            ("stamp", pa.string()),  # of the file when it was embedded, see `library.py`
            ("metadata", pa.string()),  # JSON
            ("facets", pa.list_(pa.string())),
            (POOLED, pa.list_(pa.float32(), size)),
            (SEGMENTS, pa.list_(pa.float32(), num_segments * size)),
        ]
    )


def make_rows(
    items: Sequence[Mapping[str, Any]], segment_embeds: Tensor, stamps: Sequence[str] | None = None
) -> pa.Table:
    """Items with their embeddings as rows.

    Args:
        items: `path`, `start` and `end` where known; everything else is metadata.
        segment_embeds: (items, K, size), L2-normalised.
        stamps: what tells whether an item's file has changed since.
    """
    embeds = segment_embeds.detach().float().cpu().contiguous()
    check_embeddings(embeds, [item.get("path") or item.get("title") or item for item in items])
    count, num_segments, size = embeds.shape
    metadata = [metadata_json({key: value for key, value in item.items() if key not in PLACE}) for item in items]
    return pa.table(
        {
            **{name: [item.get(name) for item in items] for name in PLACE},
            "stamp": [None] * count if stamps is None else list(stamps),
            "metadata": metadata,
            "facets": [facets(json.loads(values)) for values in metadata],
            POOLED: _fixed_lists(pool(embeds), size),
            SEGMENTS: _fixed_lists(embeds, num_segments * size),
        },
        schema=row_schema(num_segments, size),
    )


def check_embeddings(embeds: Tensor, names: Sequence[object]) -> None:
    """Refuse embeddings (items, …) that hold a NaN or an infinity: they would rank first for every query.

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


def metadata_json(metadata: Mapping[str, Any]) -> str:
    """Metadata as a row keeps it; what JSON does not know becomes a string."""
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


def row_items(rows: pa.Table) -> Iterator[dict[str, Any]]:
    """The items that rows were made of; a place that is not known is left out."""
    for row in rows.select(["metadata", *PLACE]).to_pylist():
        yield known(json.loads(row.pop("metadata"))) | {key: value for key, value in row.items() if value is not None}


def known(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """All that is known of an item, on one level: what was measured, and over it what somebody has said.

    >>> known({"title": "Ode", "measured": {"title": "track01", "bpm": 92.3}})
    {'title': 'Ode', 'bpm': 92.3}
    """
    return {**metadata.get(MEASURED, {}), **{key: value for key, value in metadata.items() if key != MEASURED}}


def row_segments(rows: pa.Table, num_segments: int) -> Tensor:
    """Segment embeddings of rows, (rows, K, size)."""
    flat = matrix(rows[SEGMENTS].combine_chunks())
    return torch.from_numpy(flat.copy()).view(len(rows), num_segments, -1)


def matrix(chunk: pa.FixedSizeListArray) -> Floats:
    """A chunk of vectors as (rows, size), without a copy."""
    return chunk.flatten().to_numpy().reshape(len(chunk), chunk.type.list_size)


def pool(segment_embeds: Tensor) -> Tensor:
    """One vector a clip: the mean over its segments, L2-normalised, (..., K, size) → (..., size)."""
    return nn.functional.normalize(segment_embeds.mean(-2), dim=-1)


def facets(metadata: Mapping[str, Any]) -> list[str]:
    """What a filter can ask for: `key=value` for each value, and for each member of a list.

    >>> facets({"title": "Ode", "year": 1824, "tags": ["choir", "loud"], "label": None})
    ['title=Ode', 'year=1824', 'tags=choir', 'tags=loud']
    """
    values = {key: value if isinstance(value, (list, tuple)) else [value] for key, value in known(metadata).items()}
    return [f"{key}={value}" for key, members in values.items() for value in members if value is not None]


def matching(rows: pa.Table, where: Where) -> npt.NDArray[np.bool_]:
    """Which rows meet a filter, (rows,). An item's place is a filter's key too, `path` above all."""
    found = np.ones(len(rows), dtype=bool)
    for key, values in where.items():
        if key in PLACE:
            found &= _is_any(rows[key].combine_chunks().cast(pa.string()), "", values)
        else:
            found &= np.concatenate([_any_facet(chunk, f"{key}=", values) for chunk in rows["facets"].chunks])
    return found


def _any_facet(chunk: pa.ListArray, prefix: str, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(chunk), dtype=bool)
    found[pc.list_parent_indices(chunk).to_numpy()[_is_any(chunk.flatten(), prefix, values)]] = True
    return found


def _is_any(texts: pa.StringArray, prefix: str, values: Sequence[Any]) -> npt.NDArray[np.bool_]:
    """Which texts are the prefix with one of the values, or with a number in one of the intervals."""
    intervals = [value for value in values if isinstance(value, Interval)]
    exact = pa.array([f"{prefix}{value}" for value in values if not isinstance(value, Interval)], pa.string())
    found = pc.is_in(texts, exact).to_numpy(zero_copy_only=False)
    if intervals:
        begins = pc.starts_with(texts, prefix).fill_null(False)
        rest = pc.utf8_slice_codeunits(texts.filter(begins), len(prefix))
        numbers = pc.if_else(pc.match_substring_regex(rest, A_NUMBER), rest, "nan").cast(pa.float64()).to_numpy()
        inside = np.logical_or.reduce([interval.holds(numbers) for interval in intervals])
        found[begins.to_numpy(zero_copy_only=False)] |= inside
    return found


def _fixed_lists(vectors: Tensor, size: int) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(vectors.flatten().numpy()), size)
