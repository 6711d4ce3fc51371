"""Ask an index: files and words in, ranked items out (§3.4), with queries that can be bent (§5.2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..data.prepared_clips import SourceError, warn_of_old_sampling
from ..media.reading import MediaError, probe
from ..models.similarity import combine_queries, pool_segments
from .embedders.embedder import MODALITIES, open_embedder
from .embedding import Cutting, embed_files, embed_texts
from .index import CANDIDATES, Match, ModelMismatchError, RetrievalIndex
from .library import LibraryFile
from .queries import Answer, AnyQuery, QueryPart

LongQuery = Literal["best", "parts"]


@dataclass(frozen=True)
class EmbeddedQuery:
    """A query's sections, (sections, K, size), each L2-normalised, of which kind, and where they lie in its file."""

    embeds: Tensor
    kind: str
    places: tuple[tuple[float, float], ...] = ()


class Searcher:
    """An index together with its model: files and words in, matches out.

    A query is cut into sections as the library was. A long one is answered by the section of it that fits an item best,
    or section by section, by choice.

    Args:
        index: folder that `cmmixer index` wrote, or an index.
        model: folder of the index's model, where it is not in its place any more.
        device: where the model runs; the first GPU, or the CPU, by default.
        candidates: as in [`RetrievalIndex.search`].

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
        candidates: int = CANDIDATES,
    ):
        self.candidates = candidates
        self.index = index if isinstance(index, RetrievalIndex) else RetrievalIndex.load(index)
        facts = self.index.facts
        warn_of_old_sampling("the index", facts.sampling_version)
        try:
            self.embedder = open_embedder(model or facts.model, device, num_segments=facts.num_segments)
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
        query: AnyQuery,
        *,
        plus: AnyQuery | Iterable[AnyQuery] = (),
        minus: AnyQuery | Iterable[AnyQuery] = (),
        k: int = 10,
        where: Mapping[str, Any] | None = None,
    ) -> list[Match]:
        """The `k` best items for a file or words, best first.

        Args:
            query: path of a video or audio file, or a [`QueryPart`], such as `QueryPart(text="calm piano")`.
            plus, minus: files or words whose content is wanted too, or not wanted (§5.2).
            k, where: as in [`RetrievalIndex.search`].

        Raises:
            MediaError: a file cannot be used.
            SourceError: the model does not embed words, or not this modality.
        """
        (answer,) = self.search_many([query], plus=plus, minus=minus, k=k, where=where)
        if answer.error:
            raise answer.error
        return answer.matches

    def search_many(
        self,
        queries: AnyQuery | Sequence[AnyQuery],
        *,
        plus: AnyQuery | Iterable[AnyQuery] = (),
        minus: AnyQuery | Iterable[AnyQuery] = (),
        k: int = 10,
        where: Mapping[str, Any] | None = None,
        long_query: LongQuery = "best",
    ) -> list[Answer]:
        """Ask many queries at once; the answer of one that cannot be used holds its error.

        Args:
            queries: as in calling the searcher.
            plus, minus: bend each of them.
            k, where: as in [`RetrievalIndex.search`].
            long_query: `"best"` ranks items by the part of a long query that fits them best, one answer a query;
                `"parts"` gives one answer a part.

        Raises:
            MediaError, SourceError: a part of `plus` or `minus` cannot be used.
            ValueError: `k` is less than 1, or no item has a key of `where`.
        """
        parts = QueryPart.list_of(queries)
        bent = self._bend(parts, plus, minus)
        sections = [(embeds, one.kind) for one in bent if isinstance(one, EmbeddedQuery) for embeds in one.embeds]
        results = iter(self._search(sections, k, where))
        answers: list[Answer] = []
        for part, one in zip(parts, bent, strict=True):
            if isinstance(one, EmbeddedQuery):
                answers += _answers(part, one, [next(results) for _ in one.embeds], k, long_query)
            else:
                answers.append(Answer(part, error=one))
        return answers

    def embed(
        self,
        query: AnyQuery,
        *,
        plus: AnyQuery | Iterable[AnyQuery] = (),
        minus: AnyQuery | Iterable[AnyQuery] = (),
    ) -> Tensor:
        """Segment embeddings of a query's sections, bent by `plus` and `minus`: (sections, K, size), L2-normalised."""
        (bent,) = self._bend([QueryPart.of(query)], plus, minus)
        if isinstance(bent, Exception):
            raise bent
        return bent.embeds

    def _bend(
        self,
        parts: Sequence[QueryPart],
        plus: AnyQuery | Iterable[AnyQuery],
        minus: AnyQuery | Iterable[AnyQuery],
    ) -> list[EmbeddedQuery | Exception]:
        """Each part embedded and bent by `plus` and `minus`, or what is wrong with it."""
        bends = [QueryPart.list_of(bend) for bend in (plus, minus)]
        embedded = self._embed([*parts, *bends[0], *bends[1]])
        added, removed = ([_one(embedded[part.unweighted], part.weight) for part in bend] for bend in bends)
        bent: list[EmbeddedQuery | Exception] = []
        for part in parts:
            own = embedded[part.unweighted]
            if isinstance(own, EmbeddedQuery):
                own = _bent(part, own, added, removed)
            bent.append(own)
        return bent

    def _search(self, queries: list[tuple[Tensor, str]], k: int, where: Mapping[str, Any] | None) -> list[list[Match]]:
        """The best items for each of these segment embeddings (K, size) of a kind."""
        if not queries:
            return []
        embeds, kinds = zip(*queries, strict=True)
        return self.index.search_many(torch.stack(embeds), k, where=where, kinds=kinds, candidates=self.candidates)

    def _embed(self, parts: Iterable[QueryPart]) -> dict[QueryPart, EmbeddedQuery | Exception]:
        """Each part without its weight, embedded once, or what is wrong with it."""
        embedded: dict[QueryPart, EmbeddedQuery | Exception] = {}
        files: dict[str, list[QueryPart]] = {modality: [] for modality in MODALITIES}
        for part in dict.fromkeys(part.unweighted for part in parts):
            try:
                if part.text is not None:
                    embeds = embed_texts([part.text], self.embedder, self.index.facts.modality)
                    embedded[part] = EmbeddedQuery(embeds, "text")
                else:
                    files[self._modality(part)].append(part)
            except (MediaError, SourceError) as error:
                embedded[part] = error
        for modality, wanted in files.items():
            embedded |= self._embed_files(wanted, modality)
        return embedded

    def _embed_files(self, parts: list[QueryPart], modality: str) -> dict[QueryPart, EmbeddedQuery | Exception]:
        """Files of one modality, cut as the library is."""
        facts = self.index.facts
        cutting = Cutting(modality, facts.section_seconds, facts.section_hop)
        done = embed_files([LibraryFile(part.path) for part in parts], self.embedder, cutting, is_query=True)
        return {
            part: EmbeddedQuery(torch.stack(file.embeds), modality, tuple(file.places))
            if file.embeds
            else file.problems[0]
            for part, file in zip(parts, done if parts else (), strict=True)
        }

    def _modality(self, part: QueryPart) -> str:
        """Which modality of a file is meant.

        Raises:
            SourceError: the model does not know it.
        """
        known = [modality for modality in self.embedder.modalities if modality in MODALITIES]
        modality = part.modality or ("video" if "video" in known and probe(part.path).has_video else "audio")
        if modality not in known:
            raise SourceError(f"{part.path}: {self.embedder.name} knows no {modality}, only {' and '.join(known)}")
        return modality


def _bent(
    part: QueryPart, query: EmbeddedQuery, added: list[Tensor], removed: list[Tensor]
) -> EmbeddedQuery | SourceError:
    """A query with what is added and taken away, or why nothing is left of it."""
    try:
        return replace(query, embeds=combine_queries(part.weight * query.embeds, plus=added, minus=removed))
    except ValueError as error:
        return SourceError(f"{part}: {error}")


def _one(embedded: EmbeddedQuery | Exception, weight: float) -> Tensor:
    """A part that bends a query, (K, size): the mean over its sections, L2-normalised, times its weight.

    Raises:
        MediaError, SourceError: it cannot be used.
    """
    if isinstance(embedded, Exception):
        raise embedded
    return weight * pool_segments(embedded.embeds.transpose(0, 1))[:, 0]


def _answers(
    part: QueryPart, query: EmbeddedQuery, results: list[list[Match]], k: int, long_query: LongQuery
) -> list[Answer]:
    """One answer of the best part for each item, or one answer a part."""
    if len(results) == 1:
        return [Answer(part, results[0])]
    if long_query == "parts":
        return [Answer(part, matches, place=place) for place, matches in zip(query.places, results, strict=True)]
    placed = (
        replace(match, asked=place) for place, matches in zip(query.places, results, strict=True) for match in matches
    )
    best: list[Match] = []
    seen: set[object] = set()  # files, and copies of them
    for match in sorted(placed, key=lambda match: -match.score):
        files = {one.item.get("path", id(match)) for one in (match, *match.also)}
        if not files & seen:
            best.append(match)
        seen |= files
    return [Answer(part, best[:k])]
