"""Queries to an index, files and words as users write them, and their answers."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..data.prepared_clips import SourceError
from .embedders.embedder import MODALITIES
from .filters import as_number
from .index import Match, clock

WORDS = "text:"  # begins a part of a query that is words, not a file


@dataclass(frozen=True)
class QueryPart:
    """A file, with the modality of it that is meant, or words, and a weight.

    Args:
        path: of a video or audio file; empty where `text` is given.
        modality: `"video"` or `"audio"` of the file; its picture where it has one and the model sees, by default.
        weight: factor of its embedding.
        text: a description in words, for models that embed text.
    """

    path: str = ""
    modality: str | None = None
    weight: float = 1.0
    text: str | None = None

    def __post_init__(self) -> None:
        if bool(self.path) == (self.text is not None):
            raise ValueError(f"a part of a query is a file or words, got path={self.path!r} and text={self.text!r}")

    def __str__(self) -> str:
        return f"{WORDS}{self.text}" if self.text is not None else ":".join(filter(None, (self.path, self.modality)))

    @classmethod
    def parse(cls, text: str) -> "QueryPart":
        """Read `FILE[:video|audio][:WEIGHT]` or `text:WORDS[:WEIGHT]`; a file that has such a name goes first.

        >>> QueryPart.parse("band.mp4:audio:0.5")
        QueryPart(path='band.mp4', modality='audio', weight=0.5, text=None)
        >>> QueryPart.parse("text:less sad:2")
        QueryPart(path='', modality=None, weight=2.0, text='less sad')
        >>> QueryPart.parse("C:\\\\band.mp4").path
        'C:\\\\band.mp4'

        Raises:
            SourceError: there is nothing before the colon or after `text:`.
        """
        path, modality, weight = text, None, 1.0
        head, _, tail = path.rpartition(":")
        if head and f"{head}:" != WORDS and not Path(path).exists() and as_number(tail) is not None:
            path, weight = head, float(tail)
        if path.startswith(WORDS) and not Path(path).exists():
            if not path.removeprefix(WORDS).strip():
                raise SourceError(f"{text} holds no words: write text:WORDS")
            return cls(weight=weight, text=path.removeprefix(WORDS).strip())
        head, _, tail = path.rpartition(":")
        if head and not Path(path).exists() and tail in MODALITIES:
            path, modality = head, tail
        if not path:
            raise SourceError("a query is empty: name a file, or write text:WORDS")
        return cls(path, modality, weight)

    @classmethod
    def of(cls, query: "AnyQuery") -> "QueryPart":
        """A path as a part; a part as it is. Raises TypeError for anything else."""
        if isinstance(query, QueryPart):
            return query
        if not isinstance(query, (str, os.PathLike)):
            raise TypeError(f"a query is the path of a file or a QueryPart, got {type(query).__name__}")
        return cls(os.fspath(query))

    @classmethod
    def list_of(cls, queries: "AnyQuery | Iterable[AnyQuery]") -> list["QueryPart"]:
        """Each as a part; a single one is a list of one, not its letters.

        >>> [part.path for part in QueryPart.list_of("a.mp4")]
        ['a.mp4']
        """
        if isinstance(queries, (str, os.PathLike, QueryPart)):
            return [cls.of(queries)]
        return [cls.of(query) for query in queries]

    @property
    def unweighted(self) -> "QueryPart":
        """The same with weight 1."""
        return replace(self, weight=1.0)


AnyQuery = str | Path | QueryPart


@dataclass(frozen=True)
class Answer:
    """The matches of one query, or why it could not be used.

    Args:
        query: what was asked.
        matches: best first.
        error: what is wrong with the query, a `MediaError` or a `SourceError`.
        place: start and end in seconds of the part of a long query that this answers; `None` for all of it.
    """

    query: QueryPart
    matches: list[Match] = field(default_factory=list)
    error: Exception | None = None
    place: tuple[float, float] | None = None

    @property
    def title(self) -> str:
        """The query, with its part where it is one.

        >>> Answer(QueryPart("a.mp4"), place=(30.0, 60.0)).title
        'a.mp4 0:30-1:00'
        """
        return f"{self.query} {clock(self.place[0])}-{clock(self.place[1])}" if self.place else str(self.query)

    @property
    def stands_out(self) -> bool:
        """Whether any of its matches is better than chance; `True`, too, where that is not known."""
        return not self.matches or any(match.stands_out for match in self.matches)
