"""The paper's optimiser and schedule (§4.3): AdamW, linear warm-up, cosine to a minimum."""

import logging
import re
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_cosine_with_min_lr_schedule_with_warmup

from .settings import TrainingSettings

_ENCODER = r"^(?:\w+_model\.|cmmixer\.|cav_mae\.)?(?:branches\.\w+\.)?"
_ENCODER_LAYER = re.compile(_ENCODER + r"layers\.(\d+)\.")
_JOINT_LAYER = re.compile(_ENCODER + r"joint_layers\.(\d+)\.")
_ENCODER_INPUT = re.compile(_ENCODER + r"(?:cls_token$|patch_embeddings\.|projection\.|positions\.)")


def layer_decay_groups(
    model: PreTrainedModel, learning_rate: float, *, weight_decay: float = 0.05, layer_decay: float = 0.75
) -> list[dict[str, Any]]:
    """Groups of the trainable parameters for an optimiser, each with its `lr` and `weight_decay`.

    The head and the final norm learn at `learning_rate`, the last layer at `layer_decay` of it, and so on down to the
    patch embeddings; a model whose configuration has no `num_hidden_layers` is all head. Matrices decay; norms, biases
    and tokens do not.
    """
    top, depths = _depths(model)
    members: dict[tuple[int, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[depths[name], weight_decay if parameter.ndim == 2 else 0.0].append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * layer_decay ** (top - depth), "weight_decay": decay}
        for (depth, decay), parameters in sorted(members.items(), key=lambda item: item[0])
    ]


def _depths(model: PreTrainedModel) -> tuple[int, dict[str, int]]:
    """The depth of what comes after the encoder, and of every parameter by name, under peft's wrapper too."""
    top = getattr(model.config, "num_hidden_layers", 0) + 1
    first_joint = top - getattr(model.config, "num_joint_layers", 0)
    names = [name for name, _ in model.named_parameters()]
    return top, {name: _depth(name.removeprefix("base_model.model."), top, first_joint) for name in names}


def _depth(name: str, top: int, first_joint: int) -> int:
    """0 for the input, i + 1 for the encoder's layer i, `top` for what comes after; joint layers are CAV-MAE's last."""
    if layer := _JOINT_LAYER.match(name):
        return first_joint + int(layer[1])
    if layer := _ENCODER_LAYER.match(name):
        return int(layer[1]) + 1
    return 0 if _ENCODER_INPUT.match(name) else top


def freeze(model: PreTrainedModel, settings: TrainingSettings) -> None:
    """Take what `settings.freeze` and `settings.freeze_layers` name out of the training of `model`, in place.

    Raises:
        ValueError: no part of the model has such a name, or nothing would be left to train.
    """
    parts = [part.strip() for part in settings.freeze.split(",") if part.strip()]
    named = dict(model.named_parameters())
    for part in parts:
        if not any(_is_in(name, part) for name in named):
            known = ", ".join(name for name, _ in model.named_children())
            raise ValueError(f"freeze names {part!r}, which {type(model).__name__} does not have: it has {known}")
    top, depths = _depths(model)
    last = min(settings.freeze_layers, top - 1) if settings.freeze_layers else -1
    for name, parameter in named.items():
        if depths[name] <= last or any(_is_in(name, part) for part in parts):
            parameter.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in named.values()):
        raise ValueError(
            f"nothing of {type(model).__name__} is left to train: name less in freeze ({settings.freeze!r}), or set "
            f"freeze_layers ({settings.freeze_layers}) lower"
        )


def _is_in(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


_BETAS = (0.9, 0.95)
_logger = logging.getLogger(__name__)


def make_optimizer(model: PreTrainedModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """Fused AdamW: matrices decay, norms, biases and tokens do not; `layer_decay` slows the lower layers down."""
    groups = layer_decay_groups(
        model, settings.learning_rate, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=_BETAS, fused=True)


def set_learning_rates(schedule: LambdaLR) -> None:
    """Set the learning rates of a restored `schedule`'s step, which differ where the run was made longer."""
    groups = schedule.optimizer.param_groups
    for group, rate, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
        group["lr"] = rate * factor(schedule.last_epoch)
    schedule._last_lr = [group["lr"] for group in groups]


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, *, steps_per_epoch: int, steps: int
) -> LambdaLR:
    """The learning rate over `steps`; every group keeps its share of it, at the minimum too."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if warmup >= steps:
        _logger.warning(
            "a warm-up of %d steps leaves none of %d at the full learning rate: set warmup_epochs", warmup, steps
        )
    return get_cosine_with_min_lr_schedule_with_warmup(
        optimizer, num_warmup_steps=warmup, num_training_steps=steps, min_lr=settings.min_learning_rate
    )
