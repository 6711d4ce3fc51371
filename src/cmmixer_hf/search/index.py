"""Embeddings → ranked items: candidates by pooled vectors, ranked exactly by their segments."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ..models.similarity import combine_queries
from .background import BACKGROUND, FEWEST_FILES, SAMPLED_FILES, Background, mean_item
from .faiss_store import FaissStore, sweep, update
from .filters import spellings
from .folding import fold
from .index_facts import DamagedIndexError, IndexFacts, ModelMismatchError, has_facts, read_facts, write_facts
from .index_rows import PLACE, Candidates, Precision, Vectors, Where, known, make_rows, pool, relabel
from .milvus_store import MilvusStore

# Candidates whose segments are compared; so many cost a third of a millisecond.
CANDIDATES = 200
# Standard deviations above background queries from which on a match is more than chance.
STANDS_OUT = 3.0

__all__ = ["DamagedIndexError", "IndexFacts", "Match", "ModelMismatchError", "RetrievalIndex", "combine_queries"]


class Store(Protocol):
    """Where an index keeps its rows: `FaissStore` in files, `MilvusStore` in a database."""

    def __len__(self) -> int: ...

    def candidates(self, pooled: Vectors, k: int, where: Where) -> Iterator[Candidates]:
        """For each query (queries, size) the rows with the most similar pooled vectors; `k` where there are so many."""

    def files(self) -> dict[str, tuple[str, str]]:
        """Stamp and metadata (JSON) of every file that has rows, by its path."""

    def tables(self, paths: AbstractSet[str]) -> Iterator[pa.Table]:
        """The rows of some files."""

    def close(self) -> None:
        """Release files and connections."""


@dataclass(frozen=True)
class Match:
    """One ranked item.

    Args:
        item: its metadata; `path`, and `start` and `end` in seconds where it is a part of its file.
        score: the mean cosine over segments, in [−1, 1].
        similarity: cosine of each segment of the query (rows) with each of the item; `score` is its diagonal's mean.
        also: what is grouped under it, best first: other sections of its file, and copies of the file.
        asked: start and end in seconds of the part of a long query that it was found for.
        standing: how far it lies above the matches of background queries, in standard deviations; `None` where the
            index has no background.
        beyond: `similarity` beyond the mean of any two clips at these positions ([`Background.beyond`]); empty
            where the index has no background.
    """

    item: dict[str, Any]
    score: float
    similarity: tuple[tuple[float, ...], ...]
    also: tuple["Match", ...] = ()
    asked: tuple[float, float] | None = None
    standing: float | None = None
    beyond: tuple[tuple[float, ...], ...] = ()

    @property
    def stands_out(self) -> bool:
        """Whether it fits better than a meaningless query would; `True`, too, where that is not known."""
        return self.standing is None or self.standing >= STANDS_OUT

    @property
    def title(self) -> str:
        """Its title, or else its file."""
        return str(self.item.get("title") or self.item.get("path", ""))

    @property
    def position(self) -> str:
        """Where in its file it lies; empty where that is not known.

        >>> Match({"start": 30.0, "end": 60.0}, 0.9, ()).position
        '0:30-1:00'
        """
        return f"{clock(self.item['start'])}-{clock(self.item['end'])}" if "start" in self.item else ""


class UnknownKeyError(ValueError):
    """A filter uses a key that no item has; the message lists those that exist."""


class RetrievalIndex:
    """Items with segment embeddings, searched by the score that Eq. 2 trains; [`build`] makes one, [`load`] opens one.

    Args:
        facts: which model made the embeddings, and how.
        store: where the rows are.
        background: statistics of background queries.

    Example:

    >>> import torch
    >>> embeds = torch.nn.functional.normalize(torch.randn(3, 8, 32), dim=-1)
    >>> index = RetrievalIndex.build([{"title": name} for name in ("a", "b", "c")], embeds, model="demo")
    >>> index.search(embeds[1], k=1)[0].item["title"]
    'b'
    """

    def __init__(self, facts: IndexFacts, store: Store, background: Background | None = None):
        self.facts = facts
        self.store = store
        self.background = background

    @classmethod
    def build(
        cls,
        items: Sequence[Mapping[str, Any]],
        segment_embeds: Tensor,
        *,
        model: str,
        identity: str = "",
        index_type: str = "flat",
        precision: Precision = "float16",
        background: Mapping[str, Tensor] | None = None,
    ) -> "RetrievalIndex":
        """Index items by their embeddings, in memory.

        Args:
            items: metadata of each item (`title`, `path`, …); `start` and `end` in seconds for parts of files.
            segment_embeds: (items, K, size), L2-normalised.
            model: name or folder of the model that made the embeddings.
            identity: its digest, `Embedder.identity`, so that another model's queries can be refused.
            index_type: `"flat"` is exact; `"ivf"` and `"hnsw"` are for millions, and miss some.
            precision: of the segments: float16 moves a score by less than a thousandth, int8 by about a hundredth.
            background: meaningless queries of each kind, from [`background_queries`], from which matches get their
                `standing`; it is `None` where there are none.

        Raises:
            ValueError: the numbers of items and embeddings differ, there are none, or they are not (items, K, size),
                finite and of length 1.
        """
        if len(items) != len(segment_embeds) or not len(items):
            raise ValueError(
                f"got {len(items)} items and {len(segment_embeds)} embeddings; they must be as many, not none"
            )
        if segment_embeds.ndim != 3:
            raise ValueError(f"expected embeddings (items, K, size), got {tuple(segment_embeds.shape)}")
        _, num_segments, size = segment_embeds.shape
        facts = IndexFacts(model, num_segments, size, identity, index_type=index_type, precision=precision)
        index = cls(facts, FaissStore.from_rows(make_rows(items, segment_embeds, precision=precision), index_type))
        if background is not None:
            index.measure_background(background)
        return index

    def __len__(self) -> int:
        return len(self.store)

    @property
    def model(self) -> str:
        """Name or folder of the model that made the embeddings."""
        return self.facts.model

    def search(
        self,
        query: Tensor,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        kind: str | None = None,
        candidates: int = CANDIDATES,
    ) -> list[Match]:
        """The `k` best files, each by its best part, best first.

        Args:
            query: segment embeddings (K, size).
            k: how many; fewer come back only where the index, or what meets the filter, has fewer.
            where: metadata that an item must have, `{"genre": "jazz", "bpm": Interval(90, 120)}`; of several values any
                will do, and a list in an item's metadata has all of its members. 120 is 120.0 too.
            kind: of the query, `"video"`, `"audio"` or `"text"`, from which matches get their `standing`.
            candidates: rows, nearest by pooled vectors, whose segments are compared. More find items that match by
                segments alone, at a third of a millisecond for each 200.

        Raises:
            ValueError: the query has another shape or is not finite, `k` is less than 1, or no item has a key of
                `where`.
        """
        return self.search_many(query[None], k, where=where, kinds=[kind], candidates=candidates)[0]

    def search_many(
        self,
        queries: Tensor,
        k: int = 10,
        *,
        where: Mapping[str, Any] | None = None,
        kinds: Sequence[str | None] | None = None,
        candidates: int = CANDIDATES,
    ) -> list[list[Match]]:
        """What [`search`] finds for each of several queries, with fewer passes over the index.

        Args:
            queries: (queries, K, size).
            k, where, candidates: as in [`search`], the same for all.
            kinds: for each query what it is, as in [`search`].

        Raises:
            ValueError: as [`search`] does.
        """
        self._check_query(queries, k)
        queries = queries.detach().float().cpu()
        conditions = {
            key: list(chain.from_iterable(map(spellings, value if isinstance(value, (list, tuple, set)) else [value])))
            for key, value in (where or {}).items()
        }
        wanted, kinds = max(k, candidates), kinds or [None] * len(queries)
        candidate_rows = self.store.candidates(pool(queries).numpy(), wanted, conditions)
        answers = [
            self._best(query, kind, rows, k, wanted, conditions)
            for query, kind, rows in zip(queries, kinds, candidate_rows, strict=True)
        ]
        if not all(answers):
            self._check_keys(conditions)
        return answers

    def _check_query(self, queries: Tensor, k: int) -> None:
        if k < 1:
            raise ValueError(f"k is how many items to show, at least 1, got {k}")
        if queries.shape[1:] != (self.facts.num_segments, self.facts.size):
            expected = (self.facts.num_segments, self.facts.size)
            raise ValueError(f"expected a query of shape {expected}, got {tuple(queries.shape[1:])}")
        if not queries.isfinite().all():
            raise ValueError("the query holds NaN or infinite values, which would fit everything: embed it again")

    def _best(
        self, query: Tensor, kind: str | None, rows: Candidates, k: int, wanted: int, where: Where
    ) -> list[Match]:
        """The best part of each file; more candidates are fetched while they come from fewer than `k` files."""
        best = self._best_of_each_file(query, rows, k, kind)
        while len(best) < k and len(rows) >= wanted:
            wanted *= 4
            (rows,) = self.store.candidates(pool(query[None]).numpy(), wanted, where)
            best = self._best_of_each_file(query, rows, k, kind)
        return best

    def filter_keys(self) -> list[str]:
        """The keys that a filter can use: those of all items' metadata, and those of an item's place."""
        keys = {key for _, text in self.store.files().values() for key in known(json.loads(text))}
        return sorted(keys | set(PLACE))

    def _check_keys(self, where: Where) -> None:
        if where and (unknown := where.keys() - (there := self.filter_keys())):
            raise UnknownKeyError(f"no item has {', '.join(sorted(unknown))}: filter by {', '.join(there)}")

    def _best_of_each_file(self, query: Tensor, rows: Candidates, k: int, kind: str | None) -> list[Match]:
        scores = rows.segments.flatten(1) @ query.flatten() / self.facts.num_segments  # as `segment_similarity`
        groups = fold(rows, scores, k)
        values = scores.tolist()
        segments = torch.from_numpy(rows.segments.numpy()[[best for best, *_ in groups]])
        similarity = (segments.flatten(0, 1) @ query.T).unflatten(0, segments.shape[:2]).mT.tolist()
        return [
            Match(
                rows.item(best),
                values[best],
                tuple(map(tuple, cosines)),
                also=tuple(Match(rows.item(other), values[other], ()) for other in others),
                **self._standing(query, own, kind),
            )
            for (best, *others), own, cosines in zip(groups, segments, similarity, strict=True)
        ]

    def _standing(self, query: Tensor, segments: Tensor, kind: str | None) -> dict[str, Any]:
        """`standing` and `beyond` of a match, where they are known."""
        if kind is None or self.background is None or kind not in self.background.tops:
            return {}
        beyond = self.background.beyond(query, segments, kind)
        return {"standing": self.background.standing(beyond, kind), "beyond": tuple(map(tuple, beyond.tolist()))}

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index into a folder, whole or not at all; one that was there before is replaced.

        Raises:
            ValueError: its rows lie in Milvus.
        """
        if not isinstance(self.store, FaissStore):
            raise ValueError(f"the rows lie in Milvus ({self.facts.uri}), not in memory: use the index where it is")
        _commit(Path(folder), self.facts, self.store.save(Path(folder)))
        self.save_background(Path(folder))

    def save_background(self, folder: Path) -> None:
        """Write the background into the index's folder; where there is none, one that lies there goes."""
        if self.background is None:
            (folder / BACKGROUND).unlink(missing_ok=True)
        else:
            self.background.save(folder)

    def measure_background(self, queries: Mapping[str, Tensor]) -> None:
        """Search with background queries and keep their statistics; an index of few files has none.

        Args:
            queries: of each kind, (queries, K, size), from [`background_queries`].
        """
        self.background = None
        paths = sorted(filter(None, self.store.files()))
        if len(paths) < FEWEST_FILES:
            return
        rows = pa.concat_tables(self.store.tables(set(paths[:: -(-len(paths) // SAMPLED_FILES)])))
        item, means = mean_item(rows, self.facts.num_segments), {kind: asked.mean(0) for kind, asked in queries.items()}
        self.background = Background(item, means, {kind: torch.tensor([0.0, 1.0]) for kind in queries})
        tops = {}
        for kind, asked in queries.items():
            best = [max(match.standing or 0.0 for match in self.search(query, kind=kind)) for query in asked]
            tops[kind] = torch.tensor([np.mean(best), np.std(best)], dtype=torch.float32)
        self.background = Background(item, means, tops)

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "RetrievalIndex":
        """Open a saved index. FAISS files are parsed by C++: load only what you or somebody you trust has written.

        Rows are mapped into memory, not read, and large files are checked by samples (`faiss_store.file_facts`), so
        that a million items are open in a moment.

        Raises:
            DamagedIndexError: there is no index, or it is damaged.
            MilvusError: its rows lie in a Milvus that does not answer.
        """
        folder = Path(folder)
        facts, files = read_facts(folder)
        try:
            store = _open(folder, facts, files)
        except (DamagedIndexError, OSError, RuntimeError):
            if read_facts(folder)[1] == files:
                raise
            return cls.load(folder)  # somebody wrote a new state, and the old one's files are gone
        if store is None:
            raise DamagedIndexError(f"{facts.uri} has no collection {facts.collection}: build it with `cmmixer index`")
        return cls(facts, store, Background.load(folder))


def known_files(folder: str | os.PathLike, facts: IndexFacts) -> dict[str, tuple[str, str]]:
    """Stamp and metadata (JSON) of every file in the index that `facts` describe, by path; nothing where there is none.

    Raises:
        ModelMismatchError: it is there, and was made by another model or in another way.
        DamagedIndexError: it is there, and damaged.
    """
    folder = Path(folder)
    files: dict[str, Any] = {}
    if has_facts(folder):
        of_folder, files = read_facts(folder)
        of_folder.check_same_embeddings(facts, str(folder))
    store = _open(folder, facts, files)
    if store is None:
        return {}
    with closing(store):
        if isinstance(store, MilvusStore) and (owner := store.owner()):
            owner.check_same_embeddings(facts, f"collection {facts.collection}")
        return store.files()


def update_index(
    folder: Path,
    facts: IndexFacts,
    new: Iterable[pa.Table],
    *,
    drop: AbstractSet[str] = frozenset(),
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Take the rows of some files out of an index and add others; make the index if it is not there yet.

    Interrupted at any moment, this leaves the index as it was, or (in Milvus) as the same call will complete it.
    [`known_files`] checks that `facts` fit the index.

    Args:
        folder: of the index.
        facts: what the index is afterwards.
        new: tables of [`rows.make_rows`], of files that are not in the index or in `drop`.
        drop: paths.
        metadata: new metadata (JSON) of files that stay, by path.
    """
    metadata = metadata or {}
    files: dict[str, Any] = {}
    if facts.uri is None:
        files = read_facts(folder)[1] if has_facts(folder) else {}
        changed = _relabelled(FaissStore.open(folder, files), metadata) if metadata else ()
        files = update(folder, files, chain(new, changed), drop | metadata.keys(), facts.index_type)
    else:
        with closing(MilvusStore(facts)) as store:
            if store.owner() is None:
                store.create()
            store.update(chain(new, _relabelled(store, metadata)), drop)
    _commit(folder, facts, files)


def _relabelled(store: Store, metadata: Mapping[str, str]) -> Iterator[pa.Table]:
    return (relabel(rows, metadata) for rows in store.tables(metadata.keys()))


def _open(folder: Path, facts: IndexFacts, files: Mapping[str, Any]) -> FaissStore | MilvusStore | None:
    """The rows of an index, `None` where there are none yet."""
    if facts.uri is None:
        return FaissStore.open(folder, files) if files else None
    store = MilvusStore(facts)
    if store.owner() is None:
        store.close()
        return None
    return store


def _commit(folder: Path, facts: IndexFacts, files: Mapping[str, Any]) -> None:
    write_facts(folder, facts, files)
    sweep(folder, files)


def clock(seconds: float) -> str:
    """A time as a player shows it.

    >>> clock(63.4), clock(3600)
    ('1:03', '1:00:00')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
