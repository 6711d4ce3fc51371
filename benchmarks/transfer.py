"""What each pre-training of `benchmarks/compare.py` is worth elsewhere (Tables 4 and 5): sounds of ESC-10 in five
folds, and what sounds in the clips of the yardstick, seen from their frames.

    cmmixer prepare esc10/manifest.csv prepared/esc10-windows --need audio --num_frames 4 --window_seconds 1
    python benchmarks/transfer.py --clips prepared/esc10-windows --shard 0/2 & ... --shard 1/2     # one process a core
    python benchmarks/transfer.py --table benchmarks/results/transfer                     # the table of what is there

Half of a budget pre-trains an encoder, as in the comparison; what that has pre-trained in the same folder is taken. A
linear probe is logistic regression on the frozen encoder's pooled tokens; fine-tuning trains a linear head on them and
all below it. The floor is logistic regression on the mean and deviation of each log-mel band of the same windows, and
on the mean and deviation of each colour in a 4 × 4 grid of the frames. A cell is one arm and seed, with a file of its
own, so that a stopped run goes on; intervals are Student's over the seeds.
"""

import copy
import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from arms import ARMS, Sizes
from datasets import Dataset
from esc10_floor import band_statistics, linear_accuracy
from experiment import HELD_OUT_SEED, Cell, CellRun, ExperimentSettings, cells, made_by, read_results, run_missing
from render import Result, paired, show, verdict
from torch import Tensor, nn
from transformers import PreTrainedModel, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data import StackMaker, collate_clips, find_labels, load_prepared
from cmmixer_hf.evaluation import predict_clips, score_classification, split_folds
from cmmixer_hf.models.baselines import colour_statistics
from cmmixer_hf.training import TrainingSettings, read_settings, train

FLOOR = "floor"
# Random weights, and every arm that pre-trains an encoder of its own; the floor takes their clips alone.
ENCODERS = {FLOOR: ARMS["random"], "random": ARMS["random"]}
ENCODERS |= {name: arm for name, arm in ARMS.items() if arm.pretrain is not None and arm.pretrained_as is None}
ABOUT = {name: arm.about for name, arm in ENCODERS.items()} | {FLOOR: "floor: statistics of log-mels, of colours"}
COLUMNS = {
    "esc10_probe": "ESC-10, linear probe",
    "esc10_finetuned": "ESC-10, fine-tuned",
    "yardstick_probe": "what sounds in a clip's frames, linear probe",
    "yardstick_finetuned": "the same, fine-tuned",
}
# (what is claimed, arm and budget that should be better, the other ones)
CLAIMS = (
    ("Solo with CutMix helps, half a TFLOP of it", ("solo-cutmix", 1), ("random", 1)),
    ("pre-training with nothing mixed helps, half a TFLOP of it", ("unmixed", 1), ("random", 1)),
    ("mixing helps it", ("solo-cutmix", 1), ("unmixed", 1)),
    ("Solo with CutMix helps, four TFLOP of it", ("solo-cutmix", 8), ("random", 1)),
    ("pre-training with nothing mixed helps, four TFLOP of it", ("unmixed", 8), ("random", 1)),
    ("mixing helps that", ("solo-cutmix", 8), ("unmixed", 8)),
)
# The same for every encoder.
FINETUNING = TrainingSettings(
    learning_rate=1e-3,
    weight_decay=0.1,
    keep_spectrograms=True,
    logging_steps=1000,
    save_steps=0,
    resume=False,
)


@dataclass
class TransferSettings:
    """Score encoders on tasks that they were not pre-trained for."""

    output: str = field(default="runs/compare", metadata={"help": "of benchmarks/compare.py, whose encoders are taken"})
    results: str = field(default="runs/transfer", metadata={"help": "folder of the results, a file a cell"})
    table: str | None = field(default=None, metadata={"help": "run nothing; a folder whose results become a table"})
    clips: str = field(default="prepared/esc10-windows", metadata={"help": "ESC-10 as prepared above"})
    arms: list[str] = field(default_factory=lambda: list(ENCODERS), metadata={"help": f"of {', '.join(ENCODERS)}"})
    budgets: list[float] = field(
        default_factory=lambda: [1.0], metadata={"help": "TFLOP in all; half of it pre-trains"}
    )
    pairs: list[int] = field(default_factory=lambda: [2000], metadata={"help": "training clips, one or several"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of worlds and weights"})
    pool: int = field(default=500, metadata={"help": "held-out clips"})
    difficulty: float = field(default=0.0, metadata={"help": "of the world, from 0 to 1"})
    epochs: int = field(default=10, metadata={"help": "of fine-tuning"})
    shard: str = field(default="0/1", metadata={"help": "i/n: run every n-th cell from the i-th on"})

    @property
    def pretraining(self) -> ExperimentSettings:
        """Of the comparison that makes the encoders."""
        names = {entry.name for entry in fields(ExperimentSettings)}
        return ExperimentSettings(**{name: value for name, value in vars(self).items() if name in names})


@dataclass
class Task:
    """Clips with one label each, and how they are split: (name, places to train on, places held out)."""

    clips: Any
    modality: str
    splits: list[tuple[int, list[int], list[int]]]

    @property
    def labels(self) -> np.ndarray:
        """The label of each clip."""
        return np.array([names[0] for names in self.clips["labels"]])


class SoundClassifier(PreTrainedModel):
    """A linear head on what a retriever makes of sounds; all of it is trained."""

    main_input_name = "audio_values"
    _supports_sdpa = True  # the retriever does

    def __init__(self, retriever: Any, labels: dict[int, str]):
        config = copy.deepcopy(retriever.config)
        config.id2label, config.problem_type = labels, "single_label_classification"
        config.label2id = {name: number for number, name in labels.items()}
        super().__init__(config)
        self.retriever = retriever
        self.head = nn.Sequential(nn.LayerNorm(config.hidden_size), nn.Linear(config.hidden_size, len(labels)))

    def forward(self, audio_values: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        """Logits, (batch, classes), of stacks as the retriever takes them."""
        return self.classify(self.retriever.get_audio_features(audio_values).pooler_output, labels)

    def classify(self, pooled: Tensor, labels: Tensor | None) -> SequenceClassifierOutput:
        """Logits and loss of pooled tokens, (batch, hidden)."""
        logits = self.head(pooled)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


class PictureClassifier(SoundClassifier):
    """The same on what it makes of frames."""

    main_input_name = "pixel_values"

    def forward(self, pixel_values: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:  # type: ignore[override]
        """Logits, (batch, classes), of stacks as the retriever takes them."""
        return self.classify(self.retriever.get_video_features(pixel_values).pooler_output, labels)


def read_tasks(settings: TransferSettings, cell: CellRun) -> dict[str, Task]:
    """ESC-10 in its folds; the yardstick's world of a seed, with the pool that no arm has seen held out."""
    sounds = load_prepared(settings.clips)
    seen, unseen = cell.clips, cell.make_clips(cell.world(HELD_OUT_SEED + cell.cell.seed), settings.pool)
    places = list(range(len(seen) + len(unseen)))
    return {
        "esc10": Task(sounds, "audio", split_folds(sounds["fold"])),
        "yardstick": Task(
            Dataset.from_list([*seen, *unseen]), "video", [(0, places[: len(seen)], places[len(seen) :])]
        ),
    }


def batches(task: Task, extractor: CMMixerFeatureExtractor) -> Iterator[Tensor]:
    """Stacks of all clips of a task, 64 at a time."""
    name, column = {"audio": ("audio_values", "waveforms"), "video": ("pixel_values", "frames")}[task.modality]
    make_stacks = StackMaker(extractor)
    for start in range(0, len(task.clips), 64):
        rows = [task.clips[place] for place in range(start, min(start + 64, len(task.clips)))]
        yield make_stacks(collate_clips(rows, columns=[column]))[name]


@torch.inference_mode()
def embed(retriever: Any, task: Task, extractor: CMMixerFeatureExtractor) -> np.ndarray:
    """The pooled tokens of each clip, (clips, hidden), of the tower for the task's modality."""
    features = {"audio": retriever.get_audio_features, "video": retriever.get_video_features}[task.modality]
    return torch.cat([features(stack).pooler_output for stack in batches(task, extractor)]).numpy()


def statistics(task: Task, extractor: CMMixerFeatureExtractor) -> np.ndarray:
    """Features of the floor, (clips, …)."""
    if task.modality == "video":
        return torch.cat([colour_statistics(stack, 4).mean(1) for stack in batches(task, extractor)]).numpy()
    return band_statistics(task.clips, extractor)


def probe(features: np.ndarray, task: Task) -> float:
    """Accuracy in percent of logistic regression, mean over the splits."""
    accuracies = []
    for _, others, held_out in task.splits:
        accuracies.append(linear_accuracy(features, task.labels, others, held_out))
    return float(np.mean(accuracies))


def finetune(
    retriever: PreTrainedModel, task: Task, extractor: CMMixerFeatureExtractor, run: TrainingSettings
) -> float:
    """Accuracy in percent of a classifier that starts as the retriever's tower, mean over the splits."""
    make = {"audio": SoundClassifier, "video": PictureClassifier}[task.modality]
    accuracies = []
    for _, others, held_out in task.splits:
        set_seed(run.seed)
        model = make(copy.deepcopy(retriever), find_labels(task.clips["labels"]))
        with tempfile.TemporaryDirectory() as folder:
            train(model, task.clips.select(others), extractor, replace(run, output_dir=folder), progress=False)
        predictions = predict_clips(model, task.clips.select(held_out), extractor, progress=False)
        accuracies.append(score_classification(predictions)[0].value)
    return float(np.mean(accuracies))


def score(cell: Cell, settings: TransferSettings, sizes: Sizes) -> Result:
    """All columns of an arm that it has."""
    started, arm = time.perf_counter(), ENCODERS[cell.arm]
    run = CellRun(cell, arm, settings.pretraining, sizes, {})
    tasks, extractor = read_tasks(settings, run), run.extractor
    retriever, spent = run.start()
    accuracy = {}
    if cell.arm == FLOOR:
        accuracy = {f"{name}_probe": probe(statistics(task, extractor), task) for name, task in tasks.items()}
    else:
        retriever.eval()
        training = replace(FINETUNING, seed=cell.seed, epochs=settings.epochs, warmup_epochs=settings.epochs / 10)
        for name, task in tasks.items():
            accuracy[f"{name}_probe"] = probe(embed(retriever, task, extractor), task)
            accuracy[f"{name}_finetuned"] = finetune(retriever, task, extractor, training)
    print(f"{cell.name}: {accuracy}", flush=True)
    return asdict(cell) | {
        "about": ABOUT[cell.arm],
        "tflop": {"pretraining": spent},
        "accuracy": accuracy,
        "settings": asdict(settings) | {"sizes": asdict(sizes)},
        "seconds": round(time.perf_counter() - started, 1),
        "made_by": made_by(),
    }


def run(settings: TransferSettings, sizes: Sizes | None = None) -> list[Result]:
    """Score the arms that have no result yet; returns all results that there are."""
    sizes, grid = sizes or Sizes(), cells(settings.pretraining, ENCODERS)
    conditions = {name: getattr(settings, name) for name in ("pool", "difficulty", "epochs")} | {"sizes": asdict(sizes)}
    return run_missing(
        grid, settings.shard, Path(settings.results), lambda _: conditions, lambda cell: score(cell, settings, sizes)
    )


def table(results: list[Result]) -> str:
    """One row an encoder and budget, in Markdown."""
    lines = [f"| encoder | TFLOP in pre-training | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (2 + len(COLUMNS))]
    for name, budget in itertools.product(ABOUT, sorted({result["budget"] for result in results})):
        if own := [result for result in results if (result["arm"], result["budget"]) == (name, budget)]:
            spent = f"{np.mean([result['tflop']['pretraining'] for result in own]):.1f}"
            scores = [[r["accuracy"][column] for r in own if column in r["accuracy"]] for column in COLUMNS]
            cells = [show(values) if values else "–" for values in scores]
            lines.append(f"| {ABOUT[name]} | {spent} | {' | '.join(cells)} |")
    return "\n".join(lines)


def gains(results: list[Result], better: tuple[str, float], other: tuple[str, float], column: str) -> list[float]:
    """Accuracy of one arm at a budget minus that of another, for every seed that both have."""
    return paired(
        *(
            {r["seed"]: r["accuracy"][column] for r in results if (r["arm"], r["budget"]) == chosen}
            for chosen in (better, other)
        )
    )


def claim_table(results: list[Result]) -> str:
    """Each claim as a paired difference in every column, and whether its interval leaves zero."""
    lines = [f"| claim, paired by seed | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (1 + len(COLUMNS))]
    for claim, better, other in CLAIMS:
        columns = [gains(results, better, other, column) for column in COLUMNS]
        if all(columns):
            lines.append(f"| {claim} | {' | '.join(f'{show(gain)}: {verdict(gain)}' for gain in columns)} |")
    return "\n".join(lines)


def main() -> None:
    """Score what is missing, or show what is there."""
    settings = read_settings(TransferSettings)
    results = read_results(settings.table) if settings.table else run(settings)
    print(f"{table(results)}\n\n{claim_table(results)}")


if __name__ == "__main__":
    main()
