"""Arms compared on the yardstick at equal compute: every FLOP of pre-training and fine-tuning is counted, not epochs.

A cell is one arm, seed, budget and number of pairs; its result is one JSON file, so that a grid can be stopped, resumed
and dealt out over processes.
"""

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, set_seed

from .arms import ARMS, Sizes
from .atomic import atomic_directory, atomic_file
from .data import StackMaker, collate_clips, unpack_frames
from .evaluation import ClipEmbeddings, embed_clips, evaluate_retrieval, score_twins
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .training import TrainingSettings, train
from .twins import TWINS
from .yardstick import World, make_row, twin_rows

HELD_OUT_SEED = 1_000_000  # far from every training world


@dataclass
class ExperimentSettings:
    """Compare arms on the yardstick at equal compute."""

    output: str = field(default="runs/compare", metadata={"help": "folder of the results, a file a cell"})
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": f"of {', '.join(ARMS)}"})
    budgets: list[float] = field(default_factory=lambda: [3.0], metadata={"help": "TFLOP in all, one or several"})
    pairs: list[int] = field(default_factory=lambda: [2000], metadata={"help": "training clips, one or several"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of worlds and weights"})
    pool: int = field(default=500, metadata={"help": "held-out clips"})
    difficulty: float = field(default=0.5, metadata={"help": "of the world, from 0 to 1"})
    batch_size: int = field(default=64, metadata={"help": "clips a step"})
    pretraining_rate: float = field(default=1e-3, metadata={"help": "learning rate of pre-training"})
    finetuning_rate: float = field(default=1e-3, metadata={"help": "learning rate of fine-tuning"})
    shard: str = field(default="0/1", metadata={"help": "i/n: run every n-th cell from the i-th on"})


@dataclass(frozen=True)
class Cell:
    """One entry of the grid."""

    arm: str
    budget: float
    pairs: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file: `solo-cutmix-3T-2000-seed0`."""
        return f"{self.arm}-{self.budget:g}T-{self.pairs}-seed{self.seed}"


def run_experiment(settings: ExperimentSettings, sizes: Sizes | None = None) -> list[dict[str, Any]]:
    """Run the cells of a grid that have no result yet; returns the results of all cells that have one."""
    output = Path(settings.output)
    output.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, settings.shard.split("/"))
    for cell in itertools.islice(cells(settings), part, None, parts):
        path = output / f"{cell.name}.json"
        if not path.exists():
            result = run_cell(cell, settings, sizes or Sizes())
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(result, indent=1))
            print(f"{cell.name}: R@10 {result['scores']['video_to_audio']['R@10']:.1f}", flush=True)
    return read_results(output)


def cells(settings: ExperimentSettings) -> Iterator[Cell]:
    """The grid, seed by seed, so that a stopped one has whole seeds."""
    unknown = set(settings.arms) - set(ARMS)
    if unknown:
        raise ValueError(f"unknown arms {sorted(unknown)}: choose among {', '.join(ARMS)}")
    for seed, pairs, budget, arm in itertools.product(settings.seeds, settings.pairs, settings.budgets, settings.arms):
        yield Cell(arm, budget, pairs, seed)


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """All results in a folder."""
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*-seed*.json"))]


def run_cell(cell: Cell, settings: ExperimentSettings, sizes: Sizes) -> dict[str, Any]:
    """Train one arm within its budget and score it on clips it never saw."""
    started, arm = time.perf_counter(), ARMS[cell.arm]
    set_seed(cell.seed)
    work = Path(settings.output) / "work"
    world = World(seed=cell.seed, sampling=sizes.sampling, difficulty=settings.difficulty)
    clips = _make_clips(world, cell.pairs, work)
    extractor = arm.extractor(sizes)
    spent = {"pretraining": 0.0, "finetuning": 0.0}
    pretrained = None
    if arm.pretrain is not None:
        pretrained, spent["pretraining"] = _pretrain(arm.pretrain, cell, settings, sizes, clips)
    retriever: Any = arm.retrieve(sizes, pretrained)
    if arm.finetune:
        budget = (1 - arm.share) * cell.budget
        rate = settings.finetuning_rate
        run = _settings(settings, work / cell.name, seed=cell.seed, rate=rate)
        spent["finetuning"] = _train_for(retriever, clips, extractor, run, budget=budget)
    held_out = World(seed=HELD_OUT_SEED + cell.seed, sampling=sizes.sampling, difficulty=settings.difficulty)
    embeddings = embed_clips(retriever, _make_clips(held_out, settings.pool, work), extractor, progress=False)
    return asdict(cell) | {
        "about": arm.about,
        "tflop": spent,
        "pool": settings.pool,
        "scores": evaluate_retrieval(embeddings),
        "twins": _score_twins(retriever, held_out, embeddings, extractor),
        "settings": asdict(settings) | {"sizes": asdict(sizes)},
        "seconds": round(time.perf_counter() - started, 1),
        "made_by": _made_by(),
    }


def count_flops(model: PreTrainedModel, clips: Dataset, extractor: CMMixerFeatureExtractor) -> float:
    """FLOP of one sample's forward and backward pass, counted in real ones (`torch.utils.flop_counter`)."""
    stacks = StackMaker(extractor)(collate_clips([clips[0], clips[1]]))
    with FlopCounterMode(display=False) as counter:
        model.train()(**stacks).loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / 2


def _train_for(
    model: PreTrainedModel,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    run: TrainingSettings,
    *,
    budget: float,
) -> float:
    """Train for so many TFLOP, in whole steps; returns the TFLOP spent."""
    step = 1e-12 * run.batch_size * count_flops(model, clips, extractor)
    run.max_steps = max(1, int(budget / step))
    run.warmup_epochs = 0.1 * run.max_steps * run.batch_size / len(clips)
    train(model, clips, extractor, run, progress=False)
    shutil.rmtree(run.output_dir)
    return step * run.max_steps


def _pretrain(
    make: Callable[[Sizes], PreTrainedModel], cell: Cell, settings: ExperimentSettings, sizes: Sizes, clips: Dataset
) -> tuple[PreTrainedModel, float]:
    """The pre-trained model of a cell and the TFLOP it took; arms that share one pre-train it once."""
    arm, work = ARMS[cell.arm], Path(settings.output) / "work"
    source = Cell(arm.pretrained_as or cell.arm, cell.budget, cell.pairs, cell.seed)
    folder = work / f"pretrained-{source.name}"
    model = make(sizes)
    if not folder.exists():
        run = _settings(settings, work / f"{cell.name}-pretraining", seed=cell.seed, rate=settings.pretraining_rate)
        spent = _train_for(model, clips, arm.extractor(sizes), run, budget=arm.share * cell.budget)
        with atomic_directory(folder) as partial:
            model.save_pretrained(partial)
            (partial / "tflop.json").write_text(json.dumps(spent))
    return type(model).from_pretrained(folder), json.loads((folder / "tflop.json").read_text())


def _settings(settings: ExperimentSettings, folder: Path, *, seed: int, rate: float) -> TrainingSettings:
    return TrainingSettings(
        output_dir=str(folder),
        resume=False,
        seed=seed,
        batch_size=settings.batch_size,
        keep_spectrograms=True,
        learning_rate=rate,
        min_learning_rate=rate / 20,
        logging_steps=50,
        save_steps=0,
        divergence_factor=0,
    )


def _make_clips(world: World, count: int, work: Path) -> Dataset:
    folder = work / f"world-{world.seed}-{count}"
    if not folder.exists():
        rows = Dataset.from_list([make_row(world, index) for index in range(count)])
        with atomic_directory(folder) as partial:
            rows.save_to_disk(partial)
    return load_from_disk(str(folder))


def _score_twins(
    retriever: Any, world: World, embeddings: ClipEmbeddings, extractor: CMMixerFeatureExtractor
) -> dict[str, float]:
    """How often a sound prefers its clip to the clip's twin, in percent, for each kind of twin that the world has."""
    indices = range(len(embeddings.video))
    scores = {}
    for kind in TWINS:
        able = [i for i in indices if kind != "binding" or len(world.scene(i).parts) > 1]
        if able:
            twins = _embed_pictures(retriever, list(twin_rows(world, kind, able)), extractor)
            scores[kind] = round(score_twins(embeddings.audio[able], embeddings.video[able], twins).value, 2)
    return scores


@torch.inference_mode()
def _embed_pictures(retriever: Any, rows: list[dict[str, Any]], extractor: CMMixerFeatureExtractor) -> torch.Tensor:
    retriever.eval()
    embeds = []
    for start in range(0, len(rows), 64):
        frames = [unpack_frames(row) for row in rows[start : start + 64]]
        stacks = extractor(videos=frames)["pixel_values"]
        embeds.append(retriever.get_video_features(stacks).segment_embeds)
    return torch.cat(embeds)


def _made_by() -> dict[str, str]:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip() or "unknown",
        "torch": version("torch"),
        "cmmixer_hf": version("cmmixer_hf"),
    }
