"""Training on a CPU: the loop in two lanes, beside all threads in each operation: python benchmarks/loop.py

The demo's trainings, its clips in memory, in turns. `--busy true` lets another program hold one of the cores, as on a
laptop that does other things; processors that share theirs with strangers are best asked more than once.
"""

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from small_runs import make_clips, read_or_measure
from transformers import PreTrainedModel

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.data import Clips, KeptClips
from cmmixer_hf.demo import World, make_extractor, model_config
from cmmixer_hf.flags import Settings, setting
from cmmixer_hf.training import TrainingSettings, read_settings, train

STAGES = {
    "pre-training": lambda: CMMixerForPreTraining(model_config()),
    "retrieval": lambda: CMMixerForRetrieval(model_config()),
    "retrieval, half of the tokens": lambda: CMMixerForRetrieval(model_config(token_drop_rate=0.5)),
}
WAYS = ("all threads in each operation", "two lanes")


@dataclass
class LoopSettings(Settings):
    """What is measured, and how often."""

    clips: int = setting(512, "made clips", least=32)
    epochs: int = setting(5, "passes over them; the first, which warms up, is not counted")
    rounds: int = setting(3, "turns, of which the medians are told")
    busy: bool = setting(False, "another program holds a core")
    output: str = setting("", "file to keep the results in")
    table: str = setting("", "print the table of such a file, and measure nothing")


def measure(settings: LoopSettings) -> list[dict[str, Any]]:
    """A row a stage and a way: samples/s and CPU milliseconds a sample."""
    extractor = make_extractor()
    clips = KeptClips(make_clips(World(0), settings.clips), extractor)
    clips.__getitems__(range(settings.clips))  # so that no training reads them
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with held_core() if settings.busy else nullcontext():
        for _ in range(settings.rounds):
            for stage, make in STAGES.items():
                for way in WAYS:
                    torch.manual_seed(0)
                    with own_forward() if way == WAYS[0] else nullcontext():
                        found.setdefault((stage, way), []).append(time_training(make(), clips, settings))
    rows = []
    for (stage, way), measured in found.items():
        rate, cpu = map(statistics.median, zip(*measured, strict=True))
        rows.append({"stage": stage, "way": way, "samples_per_second": rate, "cpu_ms": cpu, "busy": settings.busy})
    return rows


def time_training(model: PreTrainedModel, clips: Clips, settings: LoopSettings) -> tuple[float, float]:
    """Samples a second, and CPU milliseconds a sample."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingSettings(
            output_dir=folder,
            epochs=settings.epochs,
            warmup_epochs=1.0,
            learning_rate=1e-3,
            logging_steps=settings.clips // 32,
            save_steps=0,
        )
        history = train(model, clips, make_extractor(), options, progress=False)
    cpu = 1000 * (time.process_time() - started) / (settings.clips * settings.epochs)
    return statistics.median(entry["samples_per_second"] for entry in history[1:]), cpu


def own_forward() -> AbstractContextManager:
    """Within it the loop calls the model's own forward."""
    return mock.patch("cmmixer_hf.training.loop.side_by_side", lambda model, *_: nullcontext(model))


@contextmanager
def held_core() -> Iterator[None]:
    """Another process computes."""
    process = multiprocessing.get_context("spawn").Process(target=hold, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()


def hold() -> None:
    """Compute for ever."""
    while True:
        pass


def loop_table(rows: list[dict[str, Any]]) -> list[str]:
    """As Markdown; the unit is the first way of each stage."""
    lines = ["| training | the loop | samples/s | × | CPU ms a sample |", "|---|---|---|---|---|"]
    units = {row["stage"]: row["samples_per_second"] for row in rows if row["way"] == WAYS[0]}
    for row in rows:
        ratio = row["samples_per_second"] / units[row["stage"]]
        facts = f"{row['samples_per_second']:.0f} | {ratio:.2f} | {row['cpu_ms']:.1f}"
        lines.append(f"| {row['stage']} | {row['way']} | {facts} |")
    return lines


def main() -> None:
    """Measure, or read what was measured, and print."""
    print(*loop_table(read_or_measure(read_settings(LoopSettings), measure)), sep="\n")


if __name__ == "__main__":
    main()
