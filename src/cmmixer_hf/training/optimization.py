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
    top = getattr(model.config, "num_hidden_layers", 0) + 1
    first_joint = top - getattr(model.config, "num_joint_layers", 0)
    members: dict[tuple[int, float], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            members[_depth(name, top, first_joint), weight_decay if parameter.ndim == 2 else 0.0].append(parameter)
    return [
        {"params": parameters, "lr": learning_rate * layer_decay ** (top - depth), "weight_decay": decay}
        for (depth, decay), parameters in sorted(members.items(), key=lambda item: item[0])
    ]


def _depth(name: str, top: int, first_joint: int) -> int:
    """0 for the input, i + 1 for the encoder's layer i, `top` for what comes after; joint layers are CAV-MAE's last."""
    if layer := _JOINT_LAYER.match(name):
        return first_joint + int(layer[1])
    if layer := _ENCODER_LAYER.match(name):
        return int(layer[1]) + 1
    return 0 if _ENCODER_INPUT.match(name) else top


BETAS = (0.9, 0.95)
logger = logging.getLogger(__name__)


def make_optimizer(model: PreTrainedModel, settings: TrainingSettings) -> torch.optim.AdamW:
    """Fused AdamW: matrices decay, norms, biases and tokens do not; `layer_decay` slows the lower layers down."""
    groups = layer_decay_groups(
        model, settings.learning_rate, weight_decay=settings.weight_decay, layer_decay=settings.layer_decay
    )
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def make_schedule(
    optimizer: torch.optim.Optimizer, settings: TrainingSettings, *, steps_per_epoch: int, steps: int
) -> LambdaLR:
    """The learning rate over `steps`; every group keeps its share of it, at the minimum too."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    if warmup >= steps:
        logger.warning(
            "a warm-up of %d steps leaves none of %d at the full learning rate: set warmup_epochs", warmup, steps
        )
    return get_cosine_with_min_lr_schedule_with_warmup(
        optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
        min_lr=settings.min_learning_rate,
    )
