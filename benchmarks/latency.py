"""Milliseconds from a file to what fits it, decoding included: python benchmarks/latency.py

A `Searcher` that stays open, as the page keeps it, is asked by one file at a time. One thread computes; CPU time is
what is told, which is the time that somebody waits on a machine that does nothing else, and holds on a busy one. Beside
a clip of 128 pixels of the small checkpoint (or `--index` and `--queries`) it takes ten seconds of made 720p.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cmmixer_hf import Searcher
from cmmixer_hf.media import read_clip, write_clip
from cmmixer_hf.search import draw_match

CHECKPOINT = Path(__file__).parent.parent / "checkpoints" / "cmmixer-small-yardstick"
SECONDS, WIDTH, HEIGHT, RATE = 10.0, 1280, 720, 24.0


def make_clip(folder: Path) -> Path:
    """A clip of moving stripes and noise, as large as films on the web are."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = np.stack([(rows + columns + 4 * place) % 256 for place in range(int(SECONDS * RATE))]).astype(np.uint8)
    sound = 0.1 * rng.standard_normal(int(SECONDS * 44100)).astype(np.float32)
    path = folder / "720p.mp4"
    write_clip(path, np.broadcast_to(frames[..., None], (*frames.shape, 3)), sound, fps=RATE, sampling_rate=44100)
    return path


def milliseconds(ask: Callable[[], object], repeats: int) -> float:
    """The median of CPU time."""
    times = []
    for _ in range(repeats + 1):
        started = time.process_time()
        ask()
        times.append(1000 * (time.process_time() - started))
    return float(np.median(times[1:]))  # the first warms up


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", default=str(CHECKPOINT / "index"))
    parser.add_argument("--queries", nargs="+", default=sorted(map(str, (CHECKPOINT / "clips").glob("*.mp4")))[:1])
    parser.add_argument("--repeats", type=int, default=10)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    searcher = Searcher(settings.index, device="cpu")
    sampling = searcher.embedder.sampling("video")
    print("| query | seconds | decoding, ms | in all, ms | the picture of the match, ms |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in [*settings.queries, str(make_clip(Path(folder)))]:
            seconds = read_clip(path, sampling, audio=False).duration
            asked = (partial(read_clip, path, sampling, audio=False), partial(searcher, path, k=5))
            decoding, found = (milliseconds(ask, settings.repeats) for ask in asked)
            drawn = milliseconds(partial(draw_match, searcher(path, k=5)[0]), settings.repeats)
            print(f"| {Path(path).name} | {seconds:.0f} | {decoding:.0f} | {found:.0f} | {drawn:.0f} |")


if __name__ == "__main__":
    main()
