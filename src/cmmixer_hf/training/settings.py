"""The settings of a training run: one dataclass, from which flags and YAML keys are derived."""

import argparse
import dataclasses
import difflib
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from ..flags import Settings, SettingsParser, setting

# Settings that do not change what a run computes, but for rounding; they may differ when it goes on, and are not in a
# model's card. Accumulation trades places with processes: what counts are the batches of a step, and for a contrastive
# loss the clips that compete (`checkpoints.identity`).
FREE = {
    *("output_dir", "resume", "num_workers", "streaming", "keep_spectrograms", "accumulation_steps"),
    *("activation_checkpointing", "compile", "log_with", "logging_steps", "picture_epochs", "evaluation_epochs"),
    *("evaluation_steps", "save_steps", "keep_checkpoints", "divergence_factor", "push_to_hub"),
}


@dataclass
class TrainingSettings(Settings):
    """How to train; the defaults are the paper's pre-training of Solo (§4.3).

    The paper says nothing of `max_gradient_norm`, `layer_decay` and `repeats`: clipping is ours, the others are off.
    A script with settings of its own derives from this class, so that they stand in the same flags, YAML file and run
    folder. A *batch* is what one process takes at a time; a *step* is one step of the optimiser, `accumulation_steps`
    batches of every process.
    """

    output_dir: str = setting("runs/cmmixer", "run folder: the model and all about its making")
    resume: bool = setting(True, "go on from the newest whole checkpoint in output_dir; false starts over")
    seed: int = setting(0, "of everything random", least=0)

    epochs: int = setting(400, "passes over the clips", least=1)
    max_steps: int = setting(0, "steps in all, instead of epochs; 0 goes by epochs", least=0)
    warmup_epochs: float = setting(80.0, "epochs of linear warm-up", least=0)
    batch_size: int = setting(32, "samples of a batch", least=1)
    accumulation_steps: int = setting(
        1,
        "batches of a process in one step; they add no negatives to a contrastive loss: its clips compete "
        "within one batch of all processes: for more of them raise batch_size, with the model's embed_chunk_size",
        least=1,
    )
    repeats: int = setting(
        1, "samples of a batch that come from one clip, decoded once and augmented so many times", least=1
    )
    augment: bool = setting(True, "crop and flip the frames at random")
    shuffle_shards: int = setting(0, "shards whose clips are shuffled together; 0 shuffles all clips", least=0)
    streaming: bool = setting(False, "read shards from front to back, holding shuffle_shards of them in memory")
    num_workers: int = setting(0, "processes that read clips; 0 reads between the steps", least=0)
    keep_spectrograms: bool = setting(
        False, "hold all clips in memory, spectrograms in place of sound; each worker its own"
    )

    learning_rate: float = setting(2e-4, "peak learning rate")
    min_learning_rate: float = setting(1e-5, "learning rate at the end of the cosine", least=0)
    weight_decay: float = setting(0.05, "of matrices; norms, biases and tokens have none", least=0)
    layer_decay: float = setting(1.0, "learning rate of an encoder layer relative to the next (fine-tuning: 0.75)")
    freeze: str = setting("", "modules that do not train, by commas, such as video_model; their names in the model")
    freeze_layers: int = setting(
        0, "encoder layers, from the input up, that do not train, patch embeddings included", least=0
    )
    max_gradient_norm: float = setting(1.0, "clip gradients to this norm; 0 does not", least=0)
    mixed_precision: Literal["no", "bf16", "fp16"] | None = setting(
        None, "of the forward pass; by default that of `accelerate launch`, else no"
    )
    activation_checkpointing: bool = setting(
        False, "compute activations twice instead of keeping them: slower, in less memory"
    )
    compile: bool = setting(False, "torch.compile the model: minutes at first, then faster")

    logging_steps: int = setting(10, "steps over which a logged loss is averaged", least=1)
    log_with: str = setting("none", "none, or trackers of accelerate: tensorboard, trackio, wandb, …, by commas")
    picture_epochs: int = setting(
        0, "draw a reconstruction every so many epochs of pre-training; 0 draws none", least=0
    )
    evaluation_epochs: int = setting(
        1, "evaluate every so many epochs, where the script evaluates; 0 does not", least=0
    )
    evaluation_steps: int = setting(0, "evaluate every so many steps instead; 0 goes by epochs", least=0)
    best_metric: str = setting(
        "",
        "keep the weights with the highest value of this score of the evaluation (-NAME: the lowest) "
        "instead of the last ones",
    )
    patience: int = setting(0, "stop after so many evaluations without a better best_metric; 0 does not", least=0)
    save_steps: int = setting(500, "steps between checkpoints; 0 saves none but on SIGTERM", least=0)
    keep_checkpoints: int = setting(2, "checkpoints kept, the newest ones", least=1)
    divergence_factor: float = setting(
        10.0, "stop at a loss so many times above the first one (at least 1); 0 does not", least=0
    )

    push_to_hub: str = setting("", "name on the Hub, you/model, to upload the finished model to")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must lie in (0, 1], got {self.layer_decay}")
        if self.batch_size % self.repeats:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of repeats ({self.repeats})")
        if self.patience and not self.best_metric:
            raise ValueError("patience waits for a better score: set best_metric to its name, such as -median_rank")
        if self.streaming and not self.shuffle_shards:
            raise ValueError("streaming holds a window of shards in memory: set shuffle_shards, to 16 for example")
        self._choose_precision()

    def _choose_precision(self) -> None:
        self.mixed_precision = self.mixed_precision or os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # type: ignore[assignment]
        if self.mixed_precision not in (known := ("no", "bf16", "fp16")):
            raise ValueError(f"mixed_precision must be one of {known}, got {self.mixed_precision!r}")


def read_settings(*classes: Any, arguments: Sequence[str] | None = None) -> Any:
    """Settings from `--config FILE.yaml` and flags, which win over the file.

    Args:
        classes: dataclasses of settings, such as [`TrainingSettings`]; every field is a flag and a key.
        arguments: the command line, by default the program's.

    Returns:
        an instance of the class, or a tuple of them where there are several.

    Raises:
        SystemExit: an unknown flag or key, or a value that does not fit; the message says which.
    """
    parser = SettingsParser(*classes)
    parser.add_argument("--config", help="YAML file of settings; flags win over it")
    line = list(sys.argv[1:] if arguments is None else arguments)
    try:
        given = vars(parser.parse_args([*_file_flags(parser, line), *line]))
        made = [
            cls(**{field.name: given[field.name] for field in dataclasses.fields(cls) if field.name in given})
            for cls in classes
        ]
    except (OSError, ValueError, yaml.YAMLError) as error:
        parser.error(str(error))
    return made[0] if len(made) == 1 else tuple(made)


def write_settings(path: Path, settings: Any) -> None:
    """A dataclass of settings as YAML, which [`read_settings`] takes back with `--config`."""
    path.write_text(yaml.safe_dump(dataclasses.asdict(settings), sort_keys=False, allow_unicode=True), encoding="utf-8")


def _file_flags(parser: argparse.ArgumentParser, line: list[str]) -> list[str]:
    """The file that `--config` names, as the flags that would say the same."""
    only_config = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    only_config.add_argument("--config")
    path = only_config.parse_known_args(line)[0].config
    if path is None:
        return []
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    known = {action.dest for action in parser._actions} - {"help", "config"}
    for unknown in set(values) - known:
        similar = difflib.get_close_matches(unknown, known, 1)
        raise ValueError(f"{path} sets {unknown!r}, which is no setting" + "".join(f"; {s!r} is one" for s in similar))
    return [flag for name, value in values.items() if value is not None for flag in _flag(name, value)]


def _flag(name: str, value: Any) -> list[str]:
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]
