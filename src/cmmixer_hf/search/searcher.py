"""Ask an index: files in, ranked items out (§3.4), with queries that can be bent (§5.2)."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..data.batches import SourceError
from ..files import aligned, atomic_file
from ..models.similarity import combine_queries
from ..settings import SearchSettings
from .embedding import MODALITIES, Embedder
from .filters import parse_conditions
from .index import Match, ModelMismatchError, RetrievalIndex
from .match_picture import draw_match


@dataclass(frozen=True)
class QueryPart:
    """A file of a query, which of its two sides is meant (its picture where it has one, by default), and its weight."""

    path: str
    modality: str | None = None
    weight: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "QueryPart":
        """Read `FILE[:video|audio][:WEIGHT]`; a file that has such a name is taken by its name.

        >>> QueryPart.parse("band.mp4:audio:0.5")
        QueryPart(path='band.mp4', modality='audio', weight=0.5)
        >>> QueryPart.parse("C:\\\\band.mp4").path
        'C:\\\\band.mp4'
        """
        path, modality, weight = text, None, 1.0
        head, _, tail = path.rpartition(":")
        if head and not Path(path).exists() and _is_number(tail):
            path, weight = head, float(tail)
        head, _, tail = path.rpartition(":")
        if head and not Path(path).exists() and tail in MODALITIES:
            path, modality = head, tail
        return cls(path, modality, weight)


QueryFile = str | Path | QueryPart


class Searcher:
    """An index together with its model: files in, matches out.

    Args:
        index: folder that `cmmixer index` wrote, or an index.
        model: folder of the index's model, where it is not in its place any more.
        device: where the model runs; the first GPU, or the CPU, by default.

    Raises:
        DamagedIndexError: there is no such index, or it is damaged.
        SourceError: its model is not where it was.
        ModelMismatchError: the model is not the one that made the index.
    """

    def __init__(
        self,
        index: str | Path | RetrievalIndex,
        model: str | None = None,
        *,
        device: torch.device | str | None = None,
    ):
        self.index = index if isinstance(index, RetrievalIndex) else RetrievalIndex.load(index)
        facts = self.index.facts
        try:
            self.embedder = Embedder(model or facts.model, device)
        except SourceError as error:
            hint = "" if model else "; if it has moved, say where it is with --model"
            raise SourceError(f"the index's model cannot be loaded: {error}{hint}") from error
        if facts.identity and facts.identity != self.embedder.identity:
            raise ModelMismatchError(
                f"the index was made by {facts.model_name}, and queries would be embedded by {self.embedder.name} "
                f"({self.embedder.identity[:8]}): give the model that made it, or index the library again"
            )

    def __call__(
        self,
        query: QueryFile,
        *,
        plus: Iterable[QueryFile] = (),
        minus: Iterable[QueryFile] = (),
        k: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Match]:
        """The `k` best items for a file, best first.

        Args:
            query: path of a video or audio file, or a [`QueryPart`].
            plus, minus: files whose content is wanted too, or not wanted (§5.2).
            k, where: as in [`RetrievalIndex.search`].

        Raises:
            MediaError: a file cannot be used.
        """
        return self.index.search(self.embed(query, plus=plus, minus=minus), k, where=where)

    def embed(self, query: QueryFile, *, plus: Iterable[QueryFile] = (), minus: Iterable[QueryFile] = ()) -> Tensor:
        """Segment embeddings of a query bent by `plus` and `minus`, (K, size), L2-normalised."""
        return combine_queries(
            self._embed_part(query),
            plus=[self._embed_part(part) for part in plus],
            minus=[self._embed_part(part) for part in minus],
        )

    def _embed_part(self, part: QueryFile) -> Tensor:
        part = part if isinstance(part, QueryPart) else QueryPart(str(part))
        return part.weight * self.embedder(part.path, part.modality)


def search(settings: SearchSettings) -> None:
    """Print the best items for each query; the index and the model are loaded once."""
    where = parse_conditions(settings.where)
    if settings.k < 1:
        raise SourceError(f"-k is how many items to show, at least 1, got {settings.k}")
    if settings.picture and len(settings.queries) > 1:
        raise SourceError(f"--picture draws one query's best match, got {len(settings.queries)} queries: give one")
    searcher = Searcher(settings.index, settings.model)
    plus, minus = (list(map(QueryPart.parse, parts)) for parts in (settings.plus, settings.minus))
    for query in settings.queries:
        part = QueryPart.parse(query)
        matches = searcher(part, plus=plus, minus=minus, k=settings.k, where=where)
        own = [_same_file(part.path, match, settings.index) for match in matches]
        print(_as_json(query, matches, own) if settings.json else _as_table(query, matches, own))
        if settings.picture and matches:
            with atomic_file(settings.picture) as partial:
                draw_match(matches[0]).save(partial)


def _same_file(query: str, match: Match, index: str) -> bool:
    """Whether an item is (a part of) the query's own file; an item's relative path starts from the index's folder."""
    path = match.item.get("path")
    return path is not None and os.path.realpath(os.path.join(index, path)) == os.path.realpath(query)


def _as_json(query: str, matches: Sequence[Match], own: Sequence[bool]) -> str:
    """One line: the query and its matches, each with its metadata, place and score, and whether it is the query's."""
    found = [
        match.item | {"score": round(match.score, 4), "own": mine} for match, mine in zip(matches, own, strict=True)
    ]
    return json.dumps({"query": query, "matches": found}, ensure_ascii=False)


def _as_table(query: str, matches: Sequence[Match], own: Sequence[bool]) -> str:
    lines = [["", "score", "position", "title"]]
    for rank, (match, mine) in enumerate(zip(matches, own, strict=True), 1):
        lines.append([str(rank), f"{match.score:.3f}", match.position, match.title + "  <- its own" * mine])
    found = aligned(lines, ">>><") if matches else "  nothing in the index fits the filter"
    return f"{query}\n{found}\n"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
