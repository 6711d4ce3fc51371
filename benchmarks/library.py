"""Sections of a library embedded in a CPU second, and what fewer bits cost in R@1: python benchmarks/library.py

The unit is what a loop does that embeds one file after the other in float32; beside it the batches of `cmmixer index`,
which reads the next files while the model works, in float32, bfloat16 and int8. All run in turns, in one run and on one
thread, decoding included. The paper's tower has weights at random, so its speed alone says something; what is found is
measured with the released small checkpoint on made clips that it has never seen, video → music, with the difference to
float32 paired over the queries. `--model` takes a checkpoint of yours.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.demo import write_library
from cmmixer_hf.evaluation import ClipEmbeddings, rank_clips
from cmmixer_hf.search import MODALITIES, Cutting, Embedder, LibraryFile, computing_in, embed_files, open_embedder

ROOT = Path(__file__).parents[1]
ONE_BY_ONE = "float32, one file after the other"
WAYS = {ONE_BY_ONE: "float32", "float32": "float32", "bfloat16": "bfloat16", "int8": "int8"}
SEED = 0  # of clips that the released checkpoint was not trained on
RESAMPLES = 2000


def embed(files: Sequence[LibraryFile], embedder: Embedder, modality: str, way: str) -> tuple[Tensor, float]:
    """(files, K, size), and CPU seconds a section."""
    started = time.process_time()
    batches = [[file] for file in files] if way == ONE_BY_ONE else [files]
    done: list[Tensor] = []
    with computing_in(embedder, WAYS[way]):
        for batch in batches:
            for file in embed_files(batch, embedder, Cutting(modality), num_workers=1):
                done += file.embeds
    return torch.stack(done), (time.process_time() - started) / len(done)


def measure(folder: str, files: Sequence[LibraryFile], rounds: int) -> dict[str, dict]:
    """For each way its median seconds a section by modality, and the embeddings."""
    embedders = {way: open_embedder(folder, "cpu") for way in WAYS}
    found: dict[str, dict] = {
        way: {"identity": embedder.identity, "seconds": {modality: [] for modality in MODALITIES}}
        for way, embedder in embedders.items()
    }
    for modality in MODALITIES:
        for way, embedder in embedders.items():  # the first files warm up, and int8 is made
            embed(files[:1], embedder, modality, way)
        for _ in range(rounds):
            for way, embedder in embedders.items():
                found[way][modality], seconds = embed(files, embedder, modality, way)
                found[way]["seconds"][modality].append(seconds)
    for row in found.values():
        row["seconds"] = {modality: float(np.median(times)) for modality, times in row["seconds"].items()}
    return found


def hits(found: dict) -> Tensor:
    """(queries,) 100 where the right track comes first, else 0."""
    return 100.0 * (rank_clips(ClipEmbeddings(found["video"], found["audio"])).places["video_to_audio"] <= 1)


def rows_of(name: str, found: dict[str, dict], *, trained: bool) -> list[dict]:
    """What the tables show of one model."""
    rows, exact = [], found["float32"]
    for way, result in found.items():
        cosines = [(result[modality] * exact[modality]).sum(-1).mean().item() for modality in MODALITIES]
        row = {"model": name, "identity": result["identity"], "way": way}
        row["per_second"] = {modality: 1 / seconds for modality, seconds in result["seconds"].items()}
        units = found[ONE_BY_ONE]["seconds"]
        row["ratio"] = {modality: units[modality] / seconds for modality, seconds in result["seconds"].items()}
        row["cosine"] = min(cosines)
        if trained:
            mine, difference = hits(result), (hits(result) - hits(exact)).numpy()
            draws = np.random.default_rng(0).integers(0, len(mine), (RESAMPLES, len(mine)))
            interval = np.percentile(difference[draws].mean(1), [2.5, 97.5]).tolist()
            row |= {"recall": mine.mean().item(), "difference": float(difference.mean()), "interval": interval}
        rows.append(row)
    return rows


def papers_model(folder: Path) -> str:
    """The paper's two towers, their weights at random."""
    torch.manual_seed(0)
    CMMixerForRetrieval(CMMixerConfig()).save_pretrained(folder)
    CMMixerProcessor(CMMixerFeatureExtractor()).save_pretrained(folder)
    return str(folder)


def library_table(rows: Sequence[dict]) -> list[str]:
    """In Markdown."""
    head = ("model", "computed in", "video sections a CPU second", "×", "sound sections", "×", "cosine with float32")
    lines = [f"| {' | '.join((*head, 'R@1 video → music', 'difference'))} |", "|---|---|" + "---|" * 7]
    for row in rows:
        speed = [
            text
            for modality in MODALITIES
            for text in (f"{row['per_second'][modality]:.2f}", f"{row['ratio'][modality]:.2f}")
        ]
        cells = [row["model"], row["way"], *speed, f"{row['cosine']:.4f}"]
        if "recall" in row:
            low, high = row["interval"]
            cells += [f"{row['recall']:.1f}", f"{row['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"]
        lines.append(f"| {' | '.join(cells + [''] * (9 - len(cells)))} |")
    return lines


def main() -> None:
    """Measure, write benchmarks/results/library.json, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "checkpoints" / "cmmixer-small-yardstick"))
    parser.add_argument("--library", type=Path, help="folder of clips; made ones by default")
    parser.add_argument("--clips", type=int, default=256, help="for the small model")
    parser.add_argument("--papers_clips", type=int, default=4, help="for the paper's, a few seconds each")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results") / "library.json")
    settings = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        made = [] if settings.library else write_library(Path(folder) / "clips", settings.clips, seed=SEED)
        paths = sorted(settings.library.iterdir())[: settings.clips] if settings.library else made
        files = [LibraryFile(str(path)) for path in paths]
        small = rows_of(Path(settings.model).name, measure(settings.model, files, settings.rounds), trained=True)
        paper = measure(papers_model(Path(folder) / "model"), files[: settings.papers_clips], settings.rounds)
    rows = [*small, *rows_of("the paper's", paper, trained=False)]
    settings.results.write_text(json.dumps(rows, indent=1))
    print("\n".join(library_table(rows)))


if __name__ == "__main__":
    main()
