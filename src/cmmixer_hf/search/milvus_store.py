"""Rows in a Milvus collection: a file of this machine, a server, or a cluster, by the same client (extra `milvus`)."""

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import torch

from .filters import Interval, within
from .index_facts import DamagedIndexError, IndexFacts
from .index_rows import (
    PLACE,
    POOLED,
    SEGMENTS,
    Candidates,
    Vectors,
    Where,
    facets,
    matrix,
    number_files,
    row_schema,
    with_precision,
)

# What Milvus calls our index types, how they are built, and which number sets how much a query looks at.
_BUILDS: dict[str, tuple[str, dict[str, int], str]] = {
    "flat": ("FLAT", {}, ""),
    "ivf": ("IVF_FLAT", {"nlist": 1024}, "nprobe"),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 80}, "ef"),
}
BREADTH = {"": (0,), "nprobe": (64, 1024), "ef": (256, 16384)}  # usual, and greatest
MOST_CANDIDATES, MOST_BYTES = 16384, 48 << 20  # of one answer: Milvus's limit, and gRPC's with a margin
ROWS_PER_REQUEST, PATHS_PER_REQUEST = 256, 64
LONGEST_FACET, MOST_FACETS, LONGEST_TEXT = 512, 4096, 65535  # characters, members, bytes
MOST_SECONDS = 1e9  # for its filters know no infinity
OWNER = "cmmixer_hf.facts"  # the property of a collection that says what it holds
TEXTS = ("path", "stamp", "metadata")
FETCHED = (*PLACE, "stamp", "metadata", SEGMENTS)


class MilvusError(OSError):
    """A Milvus does not answer, or a request to it fails; the message names both."""


class MilvusStore:
    """A collection whose rows are those of `rows.py`; what they are stands in its properties.

    A server's credentials are read from the environment variable `MILVUS_TOKEN` (`user:password` or a key).

    Args:
        facts: of the index, with `uri` (`http://host:port`, or a path that ends in `.db`) and `collection`.

    Raises:
        MilvusError: no Milvus answers.
    """

    def __init__(self, facts: IndexFacts):
        self.facts = facts
        self.collection = facts.collection or ""
        self.client = _Client(facts.uri or "")
        self._kind, self._build, self._breadth = _BUILDS[facts.index_type]
        if self.client.has_collection(self.collection):
            self.client.load_collection(self.collection)

    def close(self) -> None:
        """Close the connection, or the file, which no other process may open before."""
        self.client.close()

    def __len__(self) -> int:
        return self.client.query(self.collection, filter="", output_fields=["count(*)"])[0]["count(*)"]

    def owner(self) -> IndexFacts | None:
        """What the collection holds; `None` where there is none.

        Raises:
            DamagedIndexError: there is one, and `cmmixer index` has not made it.
        """
        if not self.client.has_collection(self.collection):
            return None
        properties = self.client.describe_collection(self.collection)["properties"]
        if OWNER not in properties:
            raise DamagedIndexError(
                f"collection {self.collection} at {self.facts.uri} is not an index: choose another with --collection"
            )
        return IndexFacts.from_note(json.loads(properties[OWNER]))

    def create(self) -> None:
        """Make the collection."""
        from pymilvus import DataType

        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        for name in TEXTS:
            schema.add_field(name, DataType.VARCHAR, max_length=LONGEST_TEXT)
        for name in ("start", "end"):
            schema.add_field(name, DataType.DOUBLE, nullable=True)
        strings = {"element_type": DataType.VARCHAR, "max_length": 4 * LONGEST_FACET, "max_capacity": MOST_FACETS}
        schema.add_field("facets", DataType.ARRAY, **strings)
        schema.add_field(POOLED, DataType.FLOAT_VECTOR, dim=self.facts.size)
        schema.add_field(SEGMENTS, DataType.FLOAT_VECTOR, dim=self.facts.num_segments * self.facts.size)
        indexes = self.client.prepare_index_params()
        indexes.add_index(POOLED, index_type=self._kind, metric_type="IP", params=self._build)
        indexes.add_index(SEGMENTS, index_type="FLAT", metric_type="IP")  # never searched; Milvus wants one
        self.client.create_collection(
            self.collection,
            schema=schema,
            index_params=indexes,
            properties={OWNER: json.dumps(asdict(self.facts))},
            consistency_level="Strong",
        )

    def candidates(self, pooled: Vectors, k: int, where: Where) -> Iterator[Candidates]:
        """For each query (queries, size) the `k` rows with the most similar pooled vectors that meet the filter.

        Where an approximate index finds fewer, the search is repeated at its greatest breadth.
        """
        conditions = [self._condition(key, values) for key, values in where.items()]
        for query in pooled:
            hits = self._hits(query, k, " and ".join(conditions))
            segments = torch.tensor([hit[SEGMENTS] for hit in hits]).view(
                len(hits), self.facts.num_segments, self.facts.size
            )
            places = [tuple(hit[name] for name in (*PLACE, "stamp")) for hit in hits]
            files = number_files(pa.array([hit["path"] for hit in hits], pa.string()))
            yield Candidates(segments, files, places.__getitem__, [hit["metadata"] for hit in hits].__getitem__)

    def _hits(self, pooled: Vectors, k: int, condition: str) -> list[dict[str, Any]]:
        limit = min(k, MOST_CANDIDATES, MOST_BYTES // (4 * self.facts.num_segments * self.facts.size))
        hits: list[dict[str, Any]] = []
        for breadth in BREADTH[self._breadth]:
            if len(hits) < limit:
                (hits,) = self.client.search(
                    self.collection,
                    [pooled],
                    anns_field=POOLED,
                    limit=limit,
                    filter=condition,
                    output_fields=list(FETCHED),
                    search_params={"metric_type": "IP", "params": {self._breadth: breadth} if breadth else {}},
                )
        return [hit["entity"] for hit in hits]

    def _condition(self, key: str, values: Sequence[Any]) -> str:
        """In Milvus's filter language. Its facets are strings, so which of them lie in an interval is looked up."""
        if key in PLACE:
            places = [f"{key} == {json.dumps(value)}" for value in values if not isinstance(value, Interval)]
            bounds = [_between(key, value) for value in values if isinstance(value, Interval)]
            return f"({' or '.join(places + bounds)})"
        wanted = [f"{key}={value}" for value in values if not isinstance(value, Interval)]
        if len(wanted) < len(values):
            wanted += sorted({facet for facet in self._all_facets(key) if within(facet.partition("=")[2], values)})
        return f"array_contains_any(facets, {_quoted(map(_short, wanted))})"

    def _all_facets(self, key: str) -> Iterator[str]:
        for _, metadata in self.files().values():
            yield from (facet for facet in facets(json.loads(metadata)) if facet.startswith(f"{key}="))

    def files(self) -> dict[str, tuple[str, str]]:
        """Stamp and metadata (JSON) of every file that has rows, by its path."""
        found: dict[str, tuple[str, str]] = {}
        with _quiet("pymilvus.client.iterator.query_iterator"):  # it warns that Milvus Lite does not tell the time
            pages = self.client.query_iterator(self.collection, batch_size=1000, output_fields=list(TEXTS))
        while page := pages.next():
            found |= {row["path"]: (row["stamp"], row["metadata"]) for row in page}
        pages.close()
        return found

    def tables(self, paths: AbstractSet[str]) -> Iterator[pa.Table]:
        """The rows of some files."""
        for group in _groups(sorted(paths), PATHS_PER_REQUEST):
            rows = self.client.query(self.collection, filter=f"path in {_quoted(group)}", output_fields=["*"])
            yield self._table(rows)

    def update(self, new: Iterable[pa.Table], drop: AbstractSet[str]) -> None:
        """Add rows in place of what their files have; take out those of other files in `drop`.

        It may be stopped at any moment and run again with the same rows: a row's id follows from its place. A file that
        is replaced is never absent meanwhile, for its old rows are deleted last.
        """
        stamps: dict[str, str] = {}
        for table in new:
            stamps |= dict(zip(table["path"].to_pylist(), table["stamp"].to_pylist(), strict=True))
            for rows in _groups(_entities(table, self.facts.num_segments), ROWS_PER_REQUEST):
                self.client.upsert(self.collection, rows)
        for path in sorted(drop & stamps.keys()):
            old = f"path in {_quoted([path])} and stamp not in {_quoted([stamps[path]])}"
            self.client.delete(self.collection, filter=old)
        for paths in _groups(sorted(drop - stamps.keys()), PATHS_PER_REQUEST):
            self.client.delete(self.collection, filter=f"path in {_quoted(paths)}")
        self.client.flush(self.collection)

    def _table(self, entities: Sequence[dict[str, Any]]) -> pa.Table:
        """What Milvus returns as rows."""
        schema = row_schema(self.facts.num_segments, self.facts.size, "float32")
        return pa.table({name: [entity[name] for entity in entities] for name in schema.names}, schema=schema)


class _Client:
    """pymilvus's client, whose errors name the server and the request on one line."""

    def __init__(self, uri: str):
        try:
            import pymilvus
        except ImportError as error:
            raise ImportError('a Milvus index needs pymilvus: pip install "cmmixer_hf[milvus]"') from error
        self._uri, self._error = uri, pymilvus.MilvusException
        self._client = self._try("connect", pymilvus.MilvusClient, uri, token=os.environ.get("MILVUS_TOKEN", ""))

    def __getattr__(self, name: str) -> Any:
        return partial(self._try, name, getattr(self._client, name))

    def _try(self, name: str, request: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
        try:
            return request(*arguments, **settings)
        except self._error as error:
            advice = "start it, or mend the address" if name == "connect" else "see what it says"
            raise MilvusError(f"Milvus at {self._uri} failed to {name}: {error.message}; {advice}") from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """A logger that says nothing less than an error."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _entities(rows: pa.Table, num_segments: int) -> Iterator[dict[str, Any]]:
    """Rows as Milvus takes them."""
    for batch in with_precision(rows, num_segments, "float32").to_batches(max_chunksize=ROWS_PER_REQUEST):
        columns = batch.select([*PLACE, "stamp", "metadata", "facets"]).to_pylist()
        for row, pooled, segments in zip(columns, matrix(batch[POOLED]), matrix(batch[SEGMENTS]), strict=True):
            row["facets"] = [_short(facet) for facet in row["facets"]]
            yield {**row, "id": _digest(f"{row['path']}\n{row['start']}"), POOLED: pooled, SEGMENTS: segments}


def _between(key: str, interval: Interval) -> str:
    low, high = max(interval.low, -MOST_SECONDS), min(interval.high, MOST_SECONDS)
    return f"({key} >{'' if interval.low_open else '='} {low} and {key} <{'' if interval.high_open else '='} {high})"


def _short(facet: str) -> str:
    """A facet, or its digest where it is too long for a collection: equal ones stay equal."""
    return facet if len(facet) <= LONGEST_FACET else _digest(facet)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _quoted(texts: Iterable[str]) -> str:
    """A list in Milvus's filter language, whose strings are written as JSON's."""
    return json.dumps(list(texts), ensure_ascii=False)


def _groups(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield group
