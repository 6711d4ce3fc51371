"""Arms compared on the yardstick at equal compute: every FLOP of pre-training and fine-tuning is counted, not epochs.

A cell is one arm, seed, budget and number of pairs; its result is one JSON file, so that a grid can be stopped, resumed
and dealt out over processes.
"""

import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Arm, Sizes
from datasets import Dataset, load_from_disk
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, set_seed
from twins import TWINS, read_esc10, twin_rows

from cmmixer_hf.data import StackMaker, collate_clips, unpack_frames
from cmmixer_hf.demo import World, make_row
from cmmixer_hf.evaluation import ClipEmbeddings, embed_clips, evaluate_retrieval, score_twins
from cmmixer_hf.files import atomic_directory, atomic_file
from cmmixer_hf.media import CMMixerFeatureExtractor
from cmmixer_hf.training import TrainingSettings, train

Memory = dict[Any, dict[str, torch.Tensor]]  # spectrograms of a world's clips, which its cells share
HELD_OUT_SEED = 1_000_000  # far from every training world
ESC10_FOLDS = {"training": (1, 2, 3, 4), "held out": (5,)}
# Of every run: no checkpoints in between, since a cell takes minutes, and no limit that only some arms would meet.
SHARED: dict[str, Any] = {
    "resume": False,
    "keep_spectrograms": True,
    "logging_steps": 50,
    "save_steps": 0,
    "divergence_factor": 0,
}


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
    esc10: str | None = field(
        default=None, metadata={"help": "folder of ESC-10, whose recordings sound then; held-out clips have fold 5's"}
    )
    batch_size: int = field(default=64, metadata={"help": "clips a step"})
    max_epochs: float = field(default=100.0, metadata={"help": "of a run, for arms whose steps cost next to nothing"})
    pretraining_rate: float = field(default=1e-3, metadata={"help": "learning rate of pre-training"})
    finetuning_rate: float = field(default=1e-3, metadata={"help": "learning rate of fine-tuning"})
    shard: str = field(default="0/1", metadata={"help": "i/n: run every n-th cell from the i-th on"})


# What a result depends on beside its cell.
CLIPS = ("difficulty", "esc10")
PRETRAINING = ("batch_size", "max_epochs", "pretraining_rate")
CONDITIONS = (*CLIPS, *PRETRAINING, "pool", "finetuning_rate", "sizes")


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


def run_experiment(
    settings: ExperimentSettings, sizes: Sizes | None = None, arms: Mapping[str, Arm] = ARMS
) -> list[dict[str, Any]]:
    """Run the cells of a grid that have no result yet; returns the results of all cells that have one.

    Args:
        settings: the grid; its arms are keys of `arms`.
        sizes: what all arms have in common.
        arms: by name; those of the paper and its peers by default.
    """
    sizes, memory = sizes or Sizes(), Memory()

    def conditions(cell: Cell) -> dict[str, Any]:
        chosen = asdict(replace(settings, **arms[cell.arm].changes)) | {"sizes": asdict(sizes)}
        return {name: chosen[name] for name in CONDITIONS}

    def score(cell: Cell) -> dict[str, Any]:
        result = run_cell(cell, arms[cell.arm], settings, sizes, memory)
        print(f"{cell.name}: R@10 {result['scores']['video_to_audio']['R@10']:.1f}", flush=True)
        return result

    return run_missing(cells(settings, arms), settings.shard, Path(settings.output), conditions, score)


def run_missing(
    grid: Iterable[Cell],
    shard: str,
    folder: Path,
    conditions: Callable[[Cell], Mapping[str, Any]],
    score: Callable[[Cell], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Score the cells of a shard, `i/n`, that have no file yet in a folder; returns all results that are there.

    Args:
        conditions: the settings that a result of a cell depends on.
        score: makes it; its `settings` hold these conditions.

    Raises:
        ValueError: a result that is there was made under other conditions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part, parts = map(int, shard.split("/"))
    for cell in itertools.islice(grid, part, None, parts):
        path = folder / f"{cell.name}.json"
        if path.exists():
            _check_conditions(path, conditions(cell))
        else:
            result = score(cell)
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(result, indent=1))
    return read_results(folder)


def _check_conditions(path: Path, conditions: Mapping[str, Any]) -> None:
    stored = json.loads(path.read_text())["settings"]
    for name, value in conditions.items():
        if stored.get(name, value) != value:
            raise ValueError(f"{path} was made with {name}={stored[name]}, not {value}: choose another output")


def cells(settings: ExperimentSettings, arms: Mapping[str, Arm] = ARMS) -> Iterator[Cell]:
    """The grid, seed by seed, so that a stopped one has whole seeds."""
    unknown = set(settings.arms) - set(arms)
    if unknown:
        raise ValueError(f"unknown arms {sorted(unknown)}: choose among {', '.join(arms)}")
    for seed, pairs, budget, arm in itertools.product(settings.seeds, settings.pairs, settings.budgets, settings.arms):
        yield Cell(arm, budget, pairs, seed)


def read_results(folder: str | Path) -> list[dict[str, Any]]:
    """All results in a folder."""
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*-seed*.json"))]


def run_cell(cell: Cell, arm: Arm, settings: ExperimentSettings, sizes: Sizes, memory: Memory) -> dict[str, Any]:
    """Train one arm within its budget and score it on clips it never saw."""
    started = time.perf_counter()
    run = CellRun(cell, arm, settings, sizes, memory)
    retriever, spent = run.train()
    return asdict(cell) | {
        "about": run.arm.about,
        "tflop": spent,
        "pool": settings.pool,
        **run.score(retriever),
        "settings": asdict(run.settings) | {"sizes": asdict(sizes)},
        "seconds": round(time.perf_counter() - started, 1),
        "made_by": made_by(),
    }


def count_flops(model: PreTrainedModel, clips: Dataset, extractor: CMMixerFeatureExtractor) -> float:
    """FLOP of one sample's forward and backward pass, counted in real ones (`torch.utils.flop_counter`).

    The counter sees attention only as plain matrix products: it does not know the fused kernel of CPUs.
    """
    stacks = StackMaker(extractor)(collate_clips([clips[0], clips[1]]))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.train()(**stacks).loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / 2


class CellRun:
    """The clips of a cell, and the steps from an arm to its scores.

    Args:
        cell, arm: what to run.
        settings: of the grid; the arm may change some.
        sizes: of stacks and encoder.
        memory: spectrograms that cells of one process share.
    """

    def __init__(self, cell: Cell, arm: Arm, settings: ExperimentSettings, sizes: Sizes, memory: Memory):
        set_seed(cell.seed)
        self.cell, self.arm, self.settings, self.sizes = cell, arm, replace(settings, **arm.changes), sizes
        self.work = Path(settings.output) / "work" / _digest(self.chosen(CLIPS), asdict(sizes))
        self.work.mkdir(parents=True, exist_ok=True)
        self.clips = self.make_clips(self.world(cell.seed), cell.pairs)
        self.extractor = self.arm.extractor(sizes)
        self.spectrograms = memory.setdefault((type(self.extractor), cell.seed), {})

    def chosen(self, names: Iterable[str]) -> dict[str, Any]:
        """The values of some settings."""
        return {name: getattr(self.settings, name) for name in names}

    def world(self, seed: int) -> World:
        """The world of a seed; with recordings, the held-out worlds have others than those to train on."""
        sampling, recordings = self.sizes.sampling, None
        if self.settings.esc10 is not None:
            folds = ESC10_FOLDS["held out" if seed >= HELD_OUT_SEED else "training"]
            recordings = read_esc10(self.settings.esc10, folds, sampling_rate=sampling.sampling_rate)
        return World(seed=seed, sampling=sampling, difficulty=self.settings.difficulty, recordings=recordings)

    def make_clips(self, world: World, count: int) -> Dataset:
        """Its first clips, made once."""
        rows = (make_row(world, index) for index in range(count))
        return self.keep(f"world-{world.seed}-{count}", rows)

    def keep(self, name: str, rows: Iterable[dict[str, Any]]) -> Dataset:
        """Rows that the cells of a grid share: written by the first one, read by the others."""
        folder = self.work / name
        if not folder.exists():
            made = Dataset.from_list(list(rows))
            with atomic_directory(folder) as partial:
                made.save_to_disk(partial)
        return load_from_disk(str(folder))

    def train(self) -> tuple[Any, dict[str, float]]:
        """The arm's retriever and the TFLOP that each stage took."""
        retriever, pretraining = self.start()
        finetuning = 0.0
        if self.arm.finetune:
            budget, rate = (1 - self.arm.share) * self.cell.budget, self.settings.finetuning_rate
            finetuning = self.spend(budget, retriever, learning_rate=rate)
        return retriever, {"pretraining": pretraining, "finetuning": finetuning}

    def start(self) -> tuple[Any, float]:
        """The arm's retriever before fine-tuning and the TFLOP of pre-training."""
        pretrained, spent = None, 0.0
        if self.arm.pretrain is not None:
            pretrained, spent = self.pretrain(self.arm.pretrain)
        set_seed(self.cell.seed)  # the same whether this cell pre-trained or found its pre-trained model
        return self.arm.retrieve(self.sizes, pretrained), spent

    def pretrain(self, make: Callable[[Sizes], PreTrainedModel]) -> tuple[PreTrainedModel, float]:
        """The pre-trained model and the TFLOP it took; arms that share one pre-train it once."""
        source = Cell(self.arm.pretrained_as or self.cell.arm, self.cell.budget, self.cell.pairs, self.cell.seed)
        folder = self.work / f"pretrained-{source.name}-{_digest(self.chosen(PRETRAINING))}"
        model = make(self.sizes)
        if not folder.exists():
            budget = self.arm.share * self.cell.budget
            spent = self.spend(budget, model, learning_rate=self.settings.pretraining_rate)
            with atomic_directory(folder) as partial:
                model.save_pretrained(partial)
                (partial / "tflop.json").write_text(json.dumps(spent))
        return type(model).from_pretrained(folder), json.loads((folder / "tflop.json").read_text())

    def spend(self, budget: float, model: PreTrainedModel, *, learning_rate: float) -> float:
        """Train for so many TFLOP, in whole steps; returns the TFLOP spent."""
        with tempfile.TemporaryDirectory(dir=self.work) as folder:
            own = {"batch_size": self.settings.batch_size, "learning_rate": learning_rate}
            run = TrainingSettings(output_dir=folder, seed=self.cell.seed, **(SHARED | own))
            run.min_learning_rate = run.learning_rate / 20
            step = 1e-12 * run.batch_size * count_flops(model, self.clips, self.extractor)
            most = int(self.settings.max_epochs * len(self.clips) / run.batch_size)
            run.max_steps = max(1, min(most, int(budget / step)))
            run.warmup_epochs = 0.1 * run.max_steps * run.batch_size / len(self.clips)
            train(model, self.clips, self.extractor, run, spectrograms=self.spectrograms, progress=False)
        return step * run.max_steps

    def score(self, retriever: Any) -> dict[str, Any]:
        """Retrieval in a pool of clips that no run has seen, and what was understood of them."""
        world = self.world(HELD_OUT_SEED + self.cell.seed)
        clips = self.make_clips(world, self.settings.pool)
        embeddings = embed_clips(retriever, clips, self.extractor, progress=False)
        return {"scores": evaluate_retrieval(embeddings), "twins": self.score_twins(retriever, world, embeddings)}

    def score_twins(self, retriever: Any, world: World, embeddings: ClipEmbeddings) -> dict[str, float]:
        """How often a sound prefers its clip to the clip's twin, in percent, for each kind of twin in the world."""
        indices = range(len(embeddings.video))
        scores = {}
        for kind in TWINS:
            able = [i for i in indices if kind != "binding" or len(world.scene(i).parts) > 1]
            if able:
                rows = self.keep(f"twins-{kind}-{world.seed}-{len(indices)}", twin_rows(world, kind, able))
                twins = _embed_pictures(retriever, rows, self.extractor)
                scores[kind] = round(score_twins(embeddings.audio[able], embeddings.video[able], twins).value, 2)
        return scores


@torch.inference_mode()
def _embed_pictures(retriever: Any, rows: Dataset, extractor: CMMixerFeatureExtractor) -> torch.Tensor:
    retriever.eval()
    embeds = []
    for start in range(0, len(rows), 64):
        frames = [unpack_frames(row) for row in rows.select(range(start, min(start + 64, len(rows))))]
        stacks = extractor(videos=frames)["pixel_values"].to(retriever.device)
        embeds.append(retriever.get_video_features(stacks).segment_embeds.cpu())
    return torch.cat(embeds)


def made_by() -> dict[str, str]:
    """Command, commit and versions of this process, for the record of a result."""
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip() or "unknown",
        "torch": version("torch"),
        "cmmixer_hf": version("cmmixer_hf"),
    }


def _digest(*settings: Mapping[str, Any]) -> str:
    """Eight letters that differ where settings do."""
    return sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
