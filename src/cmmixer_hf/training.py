"""One loop on accelerate for pre-training (§3.3) and retrieval (§3.4): `train(model, clips, extractor, settings)`."""

import inspect
import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import PreTrainedModel, get_cosine_with_min_lr_schedule_with_warmup

from .atomic import atomic_directory
from .data import StackMaker, collate_clips
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .processing_cmmixer import CMMixerProcessor

LOSSES = ("loss", "video_loss", "audio_loss")


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number; the message says when and what to try."""


@dataclass
class TrainingSettings:
    """How to train; the defaults are the paper's pre-training of Solo (§4.3)."""

    output_dir: str = field(default="runs/cmmixer", metadata={"help": "folder for the trained model and its metrics"})
    epochs: int = field(default=400, metadata={"help": "passes over the clips"})
    warmup_epochs: float = field(default=80.0, metadata={"help": "epochs of linear warm-up"})
    batch_size: int = field(default=32, metadata={"help": "clips a process and step"})
    accumulation_steps: int = field(default=1, metadata={"help": "batches a step of the optimiser"})
    learning_rate: float = field(default=2e-4, metadata={"help": "peak learning rate"})
    min_learning_rate: float = field(default=1e-5, metadata={"help": "learning rate at the end of the cosine"})
    weight_decay: float = field(default=0.05, metadata={"help": "of matrices; norms, biases and tokens have none"})
    max_gradient_norm: float = field(default=1.0, metadata={"help": "clip gradients to this norm"})
    mixed_precision: str = field(default="no", metadata={"help": "no, bf16 or fp16"})
    keep_spectrograms: bool = field(default=False, metadata={"help": "hold the spectrograms of all clips in memory"})
    logging_steps: int = field(default=10, metadata={"help": "steps over which a logged loss is averaged"})
    seed: int = field(default=0, metadata={"help": "of everything random"})


def train(
    model: PreTrainedModel,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    settings: TrainingSettings,
    *,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` on prepared clips and save it, its processor and its metrics to `settings.output_dir`.

    Returns:
        the history, one entry every `logging_steps`: step, epoch, learning rate, and the mean losses since the last.

    Raises:
        TrainingDivergedError: the loss is not finite.
    """
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision, gradient_accumulation_steps=settings.accumulation_steps
    )
    set_seed(settings.seed)
    loader = _make_loader(clips, settings)
    optimizer = torch.optim.AdamW(
        parameter_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.95), fused=True
    )
    extra_inputs = {"track_id"} & set(inspect.signature(model.forward).parameters)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    steps_per_epoch = math.ceil(len(loader) / settings.accumulation_steps)
    total = settings.epochs * steps_per_epoch
    scheduler = get_cosine_with_min_lr_schedule_with_warmup(
        optimizer,
        num_warmup_steps=round(settings.warmup_epochs * steps_per_epoch),
        num_training_steps=total,
        min_lr=settings.min_learning_rate,
    )
    make_stacks = StackMaker(extractor, augment=True, keep_spectrograms=settings.keep_spectrograms)
    log = _Log(settings.logging_steps)
    model.train()
    hidden = not (progress and accelerator.is_main_process)
    with tqdm(total=total, desc=type(accelerator.unwrap_model(model)).__name__, unit="step", disable=hidden) as bar:
        for epoch in range(settings.epochs):
            for batch in loader:
                with accelerator.accumulate(model):
                    inputs = make_stacks(batch) | {name: batch[name] for name in extra_inputs}
                    output = model(**inputs)
                    losses = {name: output[name] for name in LOSSES if name in output}
                    accelerator.backward(losses["loss"])
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(model.parameters(), settings.max_gradient_norm)
                    optimizer.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    log.add(losses, epoch=epoch + 1, learning_rate=scheduler.get_last_lr()[0])
                    scheduler.step()
                    bar.update()
                    bar.set_postfix(log.latest, refresh=False)
    log.flush()
    if accelerator.is_main_process:
        save_run(accelerator.unwrap_model(model), extractor, settings, log.history)
    accelerator.wait_for_everyone()
    return log.history


def _make_loader(clips: Dataset, settings: TrainingSettings) -> DataLoader:
    """Shuffled full batches; fewer clips than a batch make one batch of all."""
    return DataLoader(
        clips,
        batch_size=min(settings.batch_size, len(clips)),
        shuffle=True,
        drop_last=True,
        collate_fn=collate_clips,
        generator=torch.Generator().manual_seed(settings.seed),
    )


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups of the trainable parameters: matrices decay; norms, biases, cls and mask tokens do not.

    >>> groups = parameter_groups(nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2)), 0.05)
    >>> [(len(group["params"]), group["weight_decay"]) for group in groups]
    [(1, 0.05), (3, 0.0)]
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in trainable if parameter.ndim == 2]
    others = [parameter for parameter in trainable if parameter.ndim != 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def save_run(
    model: PreTrainedModel,
    extractor: CMMixerFeatureExtractor,
    settings: TrainingSettings,
    history: list[dict[str, float]],
) -> None:
    """Model, processor, settings and metrics, as one folder that is whole or absent."""
    with atomic_directory(settings.output_dir) as folder:
        model.save_pretrained(folder)
        CMMixerProcessor(extractor).save_pretrained(folder)
        (folder / "training_settings.json").write_text(json.dumps(asdict(settings), indent=2))
        (Path(folder) / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in history))


class _Log:
    """Means of the losses over `every` steps."""

    def __init__(self, every: int):
        self.every = every
        self.step = 0
        self.history: list[dict[str, float]] = []
        self._pending: list[dict[str, Tensor]] = []
        self._where: dict[str, float] = {}

    @property
    def latest(self) -> dict[str, str]:
        """The last losses, for a progress bar."""
        last = self.history[-1] if self.history else {}
        return {name: f"{last[name]:.3f}" for name in LOSSES if name in last}

    def add(self, losses: dict[str, Tensor], **where: float) -> None:
        """Take one step's losses; every so many make an entry."""
        self.step += 1
        self._where = where
        self._pending.append({name: value.detach() for name, value in losses.items()})
        if len(self._pending) == self.every:
            self.flush()

    def flush(self) -> None:
        """Make an entry of the steps since the last one, or refuse a loss that is not finite."""
        if not self._pending:
            return
        means = {name: torch.stack([entry[name] for entry in self._pending]).mean().item() for name in self._pending[0]}
        self._pending.clear()
        if not math.isfinite(means["loss"]):
            raise TrainingDivergedError(
                f"the loss is {means['loss']} by step {self.step} at learning rate {self._where['learning_rate']:.2e}: "
                "try a smaller learning rate, a longer warm-up, or mixed_precision=no"
            )
        self.history.append({"step": self.step, **self._where, **means})
