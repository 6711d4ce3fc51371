"""The paper's optimiser and schedule (§4.3): AdamW, linear warm-up, cosine to a minimum."""

import logging

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_cosine_with_min_lr_schedule_with_warmup

from .layer_decay import layer_decay_groups
from .settings import TrainingSettings

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
