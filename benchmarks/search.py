"""Milliseconds a query and recall@10 of an index: python benchmarks/search.py

Items are made: in 32 dimensions, clusters of a hundred clips on average that overlap, each of a clip's 8 segments with
an offset of its own, all seen through a random matrix; a query is a clip of the library with noise. Real embeddings may
be easier or harder to find, above all for an index that does not look at all of them. Everything
runs on one thread, in turn, a query of each contender at a time, and CPU time is what is told, so that the ratios hold
on a busy machine too. `--items 1000000` takes 10 GB of disk, 12 GB of memory and half an hour.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from cmmixer_hf import RetrievalIndex
from cmmixer_hf.search import (
    POOLED,
    SEGMENTS,
    FaissStore,
    IndexFacts,
    make_rows,
    matrix,
    pool,
    update_index,
)

SEGMENTS_PER_CLIP, CLIPS_PER_CLUSTER, CLIPS_PER_TABLE = 8, 100, 4096
LATENT_SIZE = 32
CLIP_SPREAD, SEGMENT_SPREAD = 1.0, 1.0  # standard deviations, relative to the centres'
NOISE, QUERY_NOISE = 0.3, 0.6
K = 10
CANDIDATES = 200
RAW = f"FAISS, flat, and NumPy ranking of {CANDIDATES} by segments"
BY_HAND = "the same FAISS index, {}, and that ranking"
FILTERED = "`RetrievalIndex`, flat, filter on a tenth"
AT_ONCE, ROUNDS = 200, 3


def make_clips(count: int, size: int, seed: int = 0) -> Iterator[Tensor]:
    """Segment embeddings of a library, a table's worth at a time."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, count // CLIPS_PER_CLUSTER), 1, LATENT_SIZE, generator=generator)
    projection = torch.randn(LATENT_SIZE, size, generator=generator) / LATENT_SIZE**0.5
    for start in range(0, count, CLIPS_PER_TABLE):
        clips = min(CLIPS_PER_TABLE, count - start)
        latent = centres[torch.randint(len(centres), (clips,), generator=generator)]
        latent = latent + CLIP_SPREAD * torch.randn(clips, 1, LATENT_SIZE, generator=generator)
        latent = latent + SEGMENT_SPREAD * torch.randn(clips, SEGMENTS_PER_CLIP, LATENT_SIZE, generator=generator)
        noise = NOISE * torch.randn(clips, SEGMENTS_PER_CLIP, size, generator=generator)
        yield nn.functional.normalize(latent @ projection + noise, dim=-1)


def make_tables(count: int, size: int) -> Iterator[pa.Table]:
    """The same as rows, of which a tenth has the label 0."""
    start = 0
    for clips in make_clips(count, size):
        yield make_rows(
            [{"path": str(start + place), "label": (start + place) % 10} for place in range(len(clips))], clips
        )
        start += len(clips)


def make_queries(index: RetrievalIndex, count: int) -> Tensor:
    """Noisy versions of clips of the library, (count, K, size)."""
    generator = torch.Generator().manual_seed(1)
    places = torch.randint(len(index), (count,), generator=generator).tolist()
    rows = index.store.rows[SEGMENTS].take(places)
    clips = torch.from_numpy(np.concatenate([matrix(chunk) for chunk in rows.chunks]).astype(np.float32)).view(
        count, SEGMENTS_PER_CLIP, -1
    )
    noise = torch.randn(clips.shape, generator=generator) / clips.shape[-1] ** 0.5
    return nn.functional.normalize(clips + QUERY_NOISE * noise, dim=-1)


def rank_by_all_segments(index: RetrievalIndex, query: Tensor, every: int = 1) -> list[int]:
    """The truth: the exact score of every clip, or of every tenth."""
    flat = query.flatten().numpy()
    scores = np.concatenate([matrix(chunk).astype(np.float32) @ flat for chunk in index.store.rows[SEGMENTS].chunks])
    scores = scores[::every]
    best = np.argpartition(-scores, K)[:K]
    return (best * every).tolist()


def make_contenders(indexes: dict[str, RetrievalIndex]) -> dict[str, Callable[[Tensor], list[int]]]:
    """What is compared: a query → places of the ten best."""
    rows = indexes["flat"].store.rows
    vectors = np.concatenate([matrix(chunk) for chunk in rows[POOLED].chunks]).astype(np.float32)
    segments = np.empty((len(rows), rows.schema.field(SEGMENTS).type.list_size), np.float32)
    np.concatenate([matrix(chunk) for chunk in rows[SEGMENTS].chunks], out=segments)
    raw = faiss.index_factory(vectors.shape[1], "Flat", faiss.METRIC_INNER_PRODUCT)
    raw.add(vectors)

    def by_hand(index: faiss.Index) -> Callable[[Tensor], list[int]]:
        def rank(query: Tensor) -> list[int]:
            found = index.search(pool(query[None]).numpy(), CANDIDATES)[1][0]
            return found[np.argsort(-(segments[found] @ query.flatten().numpy()))[:K]].tolist()

        return rank

    def ours(index: RetrievalIndex, **where: str) -> Callable[[Tensor], list[int]]:
        return lambda query: [int(match.item["path"]) for match in index.search(query, K, where=where)]

    return {
        "matrix product of pooled vectors": lambda query: np.argpartition(-(vectors @ pool(query[None])[0].numpy()), K)[
            :K
        ].tolist(),
        RAW: by_hand(raw),
        **{BY_HAND.format(name): by_hand(index.store._index) for name, index in indexes.items()},
        "matrix product of all segments": lambda query: rank_by_all_segments(indexes["flat"], query),
        **{f"`RetrievalIndex`, {name}": ours(index) for name, index in indexes.items()},
        FILTERED: ours(indexes["flat"], label="0"),
    }


def measure_search(count: int, size: int, num_queries: int, folder: Path) -> list[dict]:
    """A row for each contender at one size of library."""
    facts = IndexFacts("made", SEGMENTS_PER_CLIP, size)
    update_index(folder, facts, make_tables(count, size))
    started = time.process_time()
    indexes = {"flat": RetrievalIndex.load(folder)}
    seconds = {"load": time.process_time() - started}
    for name in ("ivf", "hnsw"):
        started = time.process_time()
        indexes[name] = RetrievalIndex(facts, FaissStore.from_rows(indexes["flat"].store.rows, name))
        seconds[name] = time.process_time() - started
    contenders, queries = make_contenders(indexes), make_queries(indexes["flat"], num_queries)
    times, recalls = ({name: [] for name in contenders} for _ in range(2))
    for query in tqdm(queries, desc=f"{count} clips"):
        everything, tenth = (rank_by_all_segments(indexes["flat"], query, every) for every in (1, 10))
        for name, search in contenders.items():
            started = time.process_time()
            found = search(query)
            times[name].append(1000 * (time.process_time() - started))
            recalls[name].append(len(set(found) & set(tenth if name == FILTERED else everything)) / K)
    middle = {name: float(np.median(values[1:])) for name, values in times.items()}  # the first warms up
    recall = {name: 100 * float(np.mean(values)) for name, values in recalls.items()}
    for name, index in indexes.items():
        many = f"`RetrievalIndex`, {name}, {AT_ONCE} queries at once"
        middle[many], recall[many] = measure_many(index), recall[f"`RetrievalIndex`, {name}"]
    seconds["open"] = measure_opening(folder)
    unit = middle[RAW]
    return [
        {"clips": count, "size": size, "contender": name, "ms": middle[name], "ratio": middle[name] / unit}
        | {"recall": recall[name], "seconds": seconds, "bytes": disk_bytes(folder)}
        for name in middle
    ]


def measure_many(index: RetrievalIndex) -> float:
    """Milliseconds a query where many are asked at once, which finds what each finds alone."""
    queries, times = make_queries(index, AT_ONCE), []
    for _ in range(ROUNDS):
        started = time.process_time()
        index.search_many(queries, K)
        times.append(1000 * (time.process_time() - started) / AT_ONCE)
    return float(np.median(times))


def measure_opening(folder: Path) -> float:
    """Seconds until a saved index is open."""
    times = []
    for _ in range(ROUNDS):
        started = time.process_time()
        RetrievalIndex.load(folder)
        times.append(time.process_time() - started)
    return float(np.median(times))


def disk_bytes(folder: Path) -> int:
    """Of an index."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def main() -> None:
    """Measure, write benchmarks/results/search.json, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--size", type=int, default=256, help="of an embedding; the paper's model has 768")
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results") / "search.json")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    results: dict[str, list[dict]] = {"search": []}
    with tempfile.TemporaryDirectory() as folder:
        for count in settings.items:
            results["search"] += measure_search(count, settings.size, settings.queries, Path(folder) / str(count))
            shutil.rmtree(Path(folder) / str(count))
            settings.results.write_text(json.dumps(results, indent=1))
    tables = search_table(results["search"]), storage_table(results["search"])
    print("\n\n".join("\n".join(table) for table in tables))


def search_table(rows: list[dict]) -> list[str]:
    """In Markdown."""
    lines = ["| clips | what answers | CPU ms a query | × | recall@10 |", "|---|---|---|---|---|"]
    return lines + [
        f"| {row['clips']:,} | {row['contender']} | {row['ms']:.2f} | {row['ratio']:.2f} | {row['recall']:.1f} |"
        for row in rows
    ]


def storage_table(rows: list[dict]) -> list[str]:
    """In Markdown."""
    lines = ["| clips | of its float32 vectors on disk | s to open | s to build ivf | hnsw |", "|---|---|---|---|---|"]
    for row in (row for row in rows if row["contender"] == RAW):
        share = row["bytes"] / (4 * row["clips"] * row["size"] * (SEGMENTS_PER_CLIP + 1))
        taken = " | ".join(f"{row['seconds'][name]:.3f}" for name in ("open", "ivf", "hnsw"))
        lines.append(f"| {row['clips']:,} | {share:.2f} | {taken} |")
    return lines


if __name__ == "__main__":
    main()
