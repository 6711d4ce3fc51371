"""What each pre-training of `examples/compare.py` is worth elsewhere (Tables 4 and 5): sounds of ESC-10 in five folds,
and what sounds in the clips of the yardstick, seen from their frames.

    cmmixer prepare esc10/manifest.csv prepared/esc10-windows --need audio --num_frames 4 --window_seconds 1
    python benchmarks/transfer.py --grid runs/compare --clips prepared/esc10-windows

A linear probe is logistic regression on the frozen encoder's pooled tokens; fine-tuning trains a linear head and all
below it. The floor is logistic regression on the mean and deviation of each log-mel band of the same windows, and on
the mean and deviation of each colour in a 4 × 4 grid of the frames. One run a seed of the grid; intervals are
Student's over the seeds.
"""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from render import show
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from transformers import set_seed

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor
from cmmixer_hf import CMMixerForAudioClassification as AudioClassifier
from cmmixer_hf import CMMixerForVideoClassification as VideoClassifier
from cmmixer_hf.arms import ARMS, Sizes
from cmmixer_hf.classification import cross_validate, predict_clips, score_classification
from cmmixer_hf.data import StackMaker, collate_clips, load_prepared, unpack_waveforms
from cmmixer_hf.experiment import HELD_OUT_SEED, read_results
from cmmixer_hf.feature_statistics import colour_statistics
from cmmixer_hf.labels import find_labels
from cmmixer_hf.settings import TrainingSettings, read_settings
from cmmixer_hf.training import train

FLOOR = "floor"
COLUMNS = {
    "esc10_probe": "ESC-10, linear probe",
    "esc10_finetuned": "ESC-10, fine-tuned",
    "yardstick_probe": "what sounds in a clip's frames, linear probe",
    "yardstick_finetuned": "the same, fine-tuned",
}
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

    grid: str = field(default="runs/compare", metadata={"help": "output of examples/compare.py, with its `work`"})
    clips: str = field(default="prepared/esc10-windows", metadata={"help": "ESC-10 as prepared above"})
    arms: list[str] = field(
        default_factory=lambda: ["random", *(name for name, arm in ARMS.items() if _is_encoder(name, arm))],
        metadata={"help": "arms whose encoders are probed"},
    )
    finetuned: list[str] = field(
        default_factory=lambda: ["random", "unmixed", "solo-cutmix"], metadata={"help": "arms that are fine-tuned too"}
    )
    budget: float = field(default=4.0, metadata={"help": "TFLOP of the arms' cells"})
    pairs: int = field(default=2000, metadata={"help": "training clips of the arms' cells"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "of the arms' cells"})
    epochs: int = field(default=40, metadata={"help": "of fine-tuning"})
    output: str = field(default="benchmarks/results/transfer.json", metadata={"help": "file of the results"})


def _is_encoder(name: str, arm: Any) -> bool:
    return arm.pretrain is not None and arm.pretrained_as is None


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


def read_tasks(settings: TransferSettings, seed: int) -> dict[str, Task]:
    """ESC-10 in its folds; the yardstick's world of a seed, with the pool that no arm has seen held out."""
    sounds = load_prepared(settings.clips)
    folds: list[tuple[int, list[int], list[int]]] = []
    cross_validate(sounds["fold"], lambda *split: folds.append(split) or [])  # type: ignore[func-returns-value]
    work = Path(settings.grid) / "work"
    seen = load_from_disk(str(work / f"world-{seed}-{settings.pairs}"))
    (unseen,) = (load_from_disk(str(path)) for path in work.glob(f"world-{HELD_OUT_SEED + seed}-*"))
    both = Dataset.from_list([*seen, *unseen])
    places = list(range(len(both)))
    return {
        "esc10": Task(sounds, "audio", folds),
        "yardstick": Task(both, "video", [(0, places[: len(seen)], places[len(seen) :])]),
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
    mels = [extractor.log_mel(unpack_waveforms(row).float().flatten() / 32768) for row in task.clips]
    return torch.stack([torch.cat([mel.mean(-1), mel.std(-1)]) for mel in mels]).numpy()


def probe(features: np.ndarray, task: Task) -> float:
    """Accuracy in percent of logistic regression, mean over the splits."""
    accuracies = []
    for _, others, held_out in task.splits:
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        model.fit(features[others], task.labels[others])
        accuracies.append(100 * model.score(features[held_out], task.labels[held_out]))
    return float(np.mean(accuracies))


def finetune(config: CMMixerConfig, pretrained: Path | None, task: Task, run: TrainingSettings) -> float:
    """Accuracy in percent of a classifier from a pre-trained encoder or from random weights, mean over the splits."""
    extractor = CMMixerFeatureExtractor(image_size=config.image_size, num_frames=config.num_frames, window_seconds=1.0)
    head = {"audio": AudioClassifier, "video": VideoClassifier}[task.modality]
    facts = {"id2label": find_labels(task.clips["labels"]), "problem_type": "single_label_classification"}
    accuracies = []
    for _, others, held_out in task.splits:
        set_seed(run.seed)
        if pretrained is None:
            model = head(type(config)(**(config.to_diff_dict() | facts)))
        else:
            model = head.from_pretrained(pretrained, drop_path_rate=config.drop_path_rate, **facts)
        with tempfile.TemporaryDirectory() as folder:
            train(model, task.clips.select(others), extractor, replace(run, output_dir=folder), progress=False)
        predictions = predict_clips(model, task.clips.select(held_out), extractor, progress=False)
        accuracies.append(score_classification(predictions)[0].value)
    return float(np.mean(accuracies))


def grid_sizes(settings: TransferSettings) -> Sizes:
    """Of the models in a grid."""
    return Sizes(**read_results(settings.grid)[0]["settings"]["sizes"])


def score_arm(name: str, seed: int, tasks: dict[str, Task], settings: TransferSettings) -> dict[str, float]:
    """All columns of an arm that it has."""
    arm, sizes = ARMS[name], grid_sizes(settings)
    set_seed(seed)
    pretrained, folder = None, None
    if arm.pretrain is not None:
        folder = Path(settings.grid) / "work" / f"pretrained-{name}-{settings.budget:g}T-{settings.pairs}-seed{seed}"
        pretrained = type(arm.pretrain(sizes)).from_pretrained(folder)
    retriever, extractor = arm.retrieve(sizes, pretrained).eval(), arm.extractor(sizes)
    scores = {}
    for task_name, task in tasks.items():
        scores[f"{task_name}_probe"] = probe(embed(retriever, task, extractor), task)
        if name in settings.finetuned:
            run = replace(FINETUNING, seed=seed, epochs=settings.epochs, warmup_epochs=settings.epochs / 10)
            scores[f"{task_name}_finetuned"] = finetune(sizes.cmmixer(drop_path_rate=0.1), folder, task, run)
    return scores


def run(settings: TransferSettings) -> dict[str, Any]:
    """The columns of every arm, a list of a number a seed each."""
    found: dict[str, dict[str, list[float]]] = {}
    for seed in settings.seeds:
        tasks = read_tasks(settings, seed)
        extractor = grid_sizes(settings).extractor()
        floor = {f"{name}_probe": probe(statistics(task, extractor), task) for name, task in tasks.items()}
        rows = {FLOOR: floor} | {name: score_arm(name, seed, tasks, settings) for name in settings.arms}
        for name, scores in rows.items():
            for column, score in scores.items():
                found.setdefault(name, {}).setdefault(column, []).append(score)
    return {"settings": vars(settings), "accuracy": found}


def table(results: dict[str, Any]) -> str:
    """One row an encoder, in Markdown."""
    lines = [f"| encoder | {' | '.join(COLUMNS.values())} |", "|" + "---|" * (1 + len(COLUMNS))]
    for name, scores in results["accuracy"].items():
        about = "floor: statistics of log-mels, of colours" if name == FLOOR else ARMS[name].about
        cells = [show(scores[column]) if column in scores else "–" for column in COLUMNS]
        lines.append(f"| {about} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Score, print, and keep."""
    settings = read_settings(TransferSettings)
    results = run(settings)
    print(table(results))
    Path(settings.output).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
