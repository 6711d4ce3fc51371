"""Which rows meet a filter: the values of a key become a column when the key is first used."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from .filters import Interval
from .index_rows import PLACE, Where

A_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


@dataclass(frozen=True)
class FacetColumn:
    """The values of one key.

    Args:
        values: every different value, once.
        codes: (entries,) which value each entry has.
        rows: (entries,) which row it belongs to; a row may have several entries, or none.
    """

    values: pa.StringArray
    codes: npt.NDArray[np.int32]
    rows: npt.NDArray[np.int64]

    @cached_property
    def numbers(self) -> npt.NDArray[np.float64]:
        """The values as numbers, NaN where they are none."""
        is_number = pc.match_substring_regex(self.values, A_NUMBER)
        return pc.if_else(is_number, self.values, "nan").cast(pa.float64()).to_numpy()

    def rows_with(self, wanted: Sequence[Any]) -> npt.NDArray[np.int64]:
        """Rows that have one of the wanted values, or a number in one of the intervals among them."""
        exact = pa.array([str(value) for value in wanted if not isinstance(value, Interval)], pa.string())
        met = pc.is_in(self.values, exact).to_numpy(zero_copy_only=False)
        for interval in (value for value in wanted if isinstance(value, Interval)):
            met = met | interval.holds(self.numbers)
        return self.rows[met[self.codes]]


class FacetColumns:
    """The columns of a table of rows."""

    def __init__(self, rows: pa.Table):
        self._rows = rows
        self._columns: dict[str, FacetColumn] = {}

    def matching(self, where: Where) -> npt.NDArray[np.bool_]:
        """Which rows meet a filter, (rows,): all its keys, each by any of its values."""
        met = np.ones(len(self._rows), dtype=bool)
        for key, wanted in where.items():
            of_key = np.zeros(len(self._rows), dtype=bool)
            of_key[self._column(key).rows_with(wanted)] = True
            met &= of_key
        return met

    def _column(self, key: str) -> FacetColumn:
        if key not in self._columns:
            texts, rows = self._of_place(key) if key in PLACE else self._of_facets(f"{key}=")
            encoded = texts.dictionary_encode()
            self._columns[key] = FacetColumn(encoded.dictionary, encoded.indices.to_numpy(), rows)
        return self._columns[key]

    def _of_place(self, key: str) -> tuple[pa.StringArray, npt.NDArray[np.int64]]:
        texts = self._rows[key].combine_chunks().cast(pa.string())
        return texts.drop_null(), np.flatnonzero(texts.is_valid().to_numpy(zero_copy_only=False))

    def _of_facets(self, prefix: str) -> tuple[pa.StringArray, npt.NDArray[np.int64]]:
        texts, rows, start = [pa.array([], pa.string())], [np.empty(0, np.int64)], 0
        for chunk in self._rows["facets"].chunks:
            ours = pc.starts_with(chunk.flatten(), prefix)
            texts.append(pc.utf8_slice_codeunits(chunk.flatten().filter(ours), len(prefix)))
            rows.append(start + pc.list_parent_indices(chunk).filter(ours).to_numpy())
            start += len(chunk)
        return pa.concat_arrays(texts), np.concatenate(rows)
