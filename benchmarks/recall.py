"""What half and a quarter of the disk cost, and how many candidates are enough, on embeddings of a trained model.

    python benchmarks/recall.py --output benchmarks/results/recall.json     # prints the table, too
    python benchmarks/recall.py --table benchmarks/results/recall.json

The library are soundtracks of made clips, the queries pictures of clips that are not in it, so that nothing is found by
being equal. Recall@10 is the share of the ten best by exact float32 scores of all items that an index gives back.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from small_runs import HELD_OUT, make_clips, read_or_measure
from torch import Tensor

from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor, RetrievalIndex
from cmmixer_hf.demo import World
from cmmixer_hf.evaluation import embed_clips
from cmmixer_hf.search import open_embedder
from cmmixer_hf.training import read_settings

K = 10
PRECISIONS = ("float32", "float16", "int8")
CANDIDATES = (10, 20, 50, 100, 200, 500, 1000)


@dataclass
class RecallSettings:
    """Which embeddings."""

    model: str = field(default="checkpoints/cmmixer-small-yardstick", metadata={"help": "retriever of made clips"})
    items: int = field(default=5000, metadata={"help": "soundtracks in the index"})
    queries: int = field(default=300, metadata={"help": "pictures to ask with"})
    seed: int = field(default=200, metadata={"help": "of the clips"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the results"})
    table: str | None = field(default=None, metadata={"help": "print the table of this file instead"})


def measure(settings: RecallSettings) -> dict[str, Any]:
    """Recall@10 for each precision and number of candidates."""
    model = CMMixerForRetrieval.from_pretrained(settings.model)
    extractor = CMMixerProcessor.from_pretrained(settings.model).feature_extractor
    library = embed_clips(model, make_clips(World(settings.seed), settings.items), extractor).audio
    queries = embed_clips(model, make_clips(World(settings.seed + HELD_OUT), settings.queries), extractor).video
    exact = (queries.flatten(1) @ library.flatten(1).T).topk(K).indices
    found = {}
    for precision in PRECISIONS:
        items = [{"path": str(place)} for place in range(len(library))]
        index = RetrievalIndex.build(items, library, model=settings.model, precision=precision)
        found[precision] = {count: recall(index, queries, exact, count) for count in CANDIDATES}
    identity = open_embedder(settings.model, "cpu").identity
    return {"identity": identity, "items": settings.items, "queries": settings.queries, "recall": found}


def recall(index: RetrievalIndex, queries: Tensor, exact: Tensor, candidates: int) -> float:
    """Percent of the items in `exact`, (queries, 10), that are given back."""
    answers = index.search_many(queries, K, candidates=candidates)
    given = torch.tensor([[int(match.item["path"]) for match in matches] for matches in answers])
    return 100 * (given[:, :, None] == exact[:, None]).any(1).float().mean().item()


def table(results: dict[str, Any]) -> str:
    """Markdown: a row a precision, a column a number of candidates."""
    lines = [
        f"| segments kept in | {' | '.join(map(str, CANDIDATES))} candidates |",
        "|" + "---|" * (1 + len(CANDIDATES)),
    ]
    for precision, recalls in results["recall"].items():
        lines.append(f"| {precision} | {' | '.join(f'{value:.1f}' for value in recalls.values())} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, or print."""
    print(table(read_or_measure(read_settings(RecallSettings), measure)))


if __name__ == "__main__":
    main()
