"""Embeddings → ranked items: FAISS finds candidates by pooled vectors, segments rank them exactly."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from torch import Tensor, nn

from .atomic import atomic_directory
from .metrics import segment_similarity

POOLED, SEGMENTS = "pooled_embeds", "segment_embeds"
# Candidates whose segments are compared; so many cost less than a tenth of a millisecond.
CANDIDATES = 200


class DamagedIndexError(ValueError):
    """An index cannot be used; the message says what to do."""


@dataclass(frozen=True)
class Match:
    """One ranked item: its metadata, and its score, the mean cosine over segments, in [−1, 1]."""

    item: dict[str, Any]
    score: float


class RetrievalIndex:
    """Items with segment embeddings, searched by the score that Eq. 2 trains.

    Example:

    >>> embeds = nn.functional.normalize(torch.randn(3, 8, 32), dim=-1)
    >>> index = RetrievalIndex.build([{"title": name} for name in ("a", "b", "c")], embeds, model="demo")
    >>> index.search(embeds[1], k=1)[0].item["title"]
    'b'
    """

    def __init__(self, rows: Dataset, *, num_segments: int, model: str):
        self.rows = rows
        self.num_segments = num_segments
        self.model = model

    @classmethod
    def build(cls, items: Sequence[dict[str, Any]], segment_embeds: Tensor, *, model: str) -> "RetrievalIndex":
        """Index items by their embeddings.

        Args:
            items: metadata of each item, the same keys for all (`title`, `path`, …).
            segment_embeds: (items, K, dim), L2-normalised.
            model: name or folder of the model that made the embeddings.

        Raises:
            ValueError: the numbers of items and embeddings differ, or there are none.
        """
        if len(items) != len(segment_embeds) or not len(items):
            raise ValueError(
                f"got {len(items)} items and {len(segment_embeds)} embeddings; they must be as many, not none"
            )
        columns = {key: [item[key] for item in items] for key in items[0]}
        columns[POOLED] = list(_pool(segment_embeds).numpy())
        columns[SEGMENTS] = [segments.numpy().tobytes() for segments in segment_embeds.float().cpu()]
        rows = Dataset.from_dict(columns)
        _add_faiss(rows)
        return cls(rows, num_segments=segment_embeds.shape[1], model=model)

    def __len__(self) -> int:
        return len(self.rows)

    def search(self, query: Tensor, k: int = 10) -> list[Match]:
        """The `k` best items for a query of segment embeddings (K, dim), best first."""
        if query.ndim != 2 or len(query) != self.num_segments:
            raise ValueError(f"expected a query of shape ({self.num_segments}, dim), got {tuple(query.shape)}")
        query = query.detach().float().cpu()
        pooled = _pool(query[None])[0].numpy()
        found = self.rows.search(POOLED, pooled, k=min(len(self), max(k, CANDIDATES))).indices
        rows = self.rows.with_format(None)[[int(row) for row in found]]
        segments = torch.stack([self._unpack(data) for data in rows.pop(SEGMENTS)])
        rows.pop(POOLED)
        best = segment_similarity(query[None], segments)[0].topk(min(k, len(segments)))
        return [
            Match({key: values[place] for key, values in rows.items()}, score)
            for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save(self, folder: str | os.PathLike) -> None:
        """Write the index as one folder, whole or not at all."""
        with atomic_directory(folder) as partial:
            rows = self.rows.with_format(None)
            rows.save_faiss_index(POOLED, partial / "pooled.faiss")
            rows.drop_index(POOLED)
            rows.save_to_disk(partial / "rows")
            self.rows = rows
            rows.load_faiss_index(POOLED, partial / "pooled.faiss")
            facts = {"model": self.model, "num_segments": self.num_segments, "digest": _digest(partial)}
            (partial / "index.json").write_text(json.dumps(facts, indent=2))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> "RetrievalIndex":
        """Read a saved index. FAISS files are parsed by C++: load only what you or somebody you trust has written.

        Raises:
            ValueError: there is no index, or it is damaged.
        """
        folder = Path(folder)
        if not (folder / "index.json").exists():
            raise DamagedIndexError(f"{folder} holds no index: build one with `cmmixer index`")
        facts = json.loads((folder / "index.json").read_text())
        if facts["digest"] != _digest(folder):
            raise DamagedIndexError(f"{folder} is damaged: its files are not those that were written; build it again")
        rows = load_from_disk(str(folder / "rows"))
        rows.load_faiss_index(POOLED, folder / "pooled.faiss")
        return cls(rows, num_segments=facts["num_segments"], model=facts["model"])

    def _unpack(self, data: bytes) -> Tensor:
        return torch.from_numpy(np.frombuffer(bytearray(data), dtype=np.float32)).view(self.num_segments, -1)


def combine_queries(query: Tensor, *, plus: Sequence[Tensor] = (), minus: Sequence[Tensor] = ()) -> Tensor:
    """A flexible query (§5.2): normalise(a + b − c), segment by segment, (K, dim).

    >>> a, b = torch.eye(4)[None, 0], torch.eye(4)[None, 1]
    >>> [round(value, 3) for value in combine_queries(a, plus=[b])[0].tolist()]
    [0.707, 0.707, 0.0, 0.0]
    """
    return nn.functional.normalize(query + sum(plus) - sum(minus), dim=-1)


def _pool(segment_embeds: Tensor) -> Tensor:
    return nn.functional.normalize(segment_embeds.float().cpu().mean(1), dim=-1)


def _add_faiss(rows: Dataset) -> None:
    try:
        import faiss
    except ImportError as error:
        raise ImportError('the index needs FAISS: pip install "cmmixer_hf[index]"') from error
    rows.add_faiss_index(POOLED, string_factory="Flat", metric_type=faiss.METRIC_INNER_PRODUCT)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "index.json"):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
