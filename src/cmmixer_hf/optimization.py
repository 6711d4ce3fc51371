"""The paper's optimiser and schedule (§4.3): AdamW, linear warm-up, cosine to a minimum."""

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedModel, get_cosine_with_min_lr_schedule_with_warmup

from .layer_decay import layer_decay_groups
from .settings import TrainingSettings

BETAS = (0.9, 0.95)


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
    return get_cosine_with_min_lr_schedule_with_warmup(
        optimizer,
        num_warmup_steps=round(settings.warmup_epochs * steps_per_epoch),
        num_training_steps=steps,
        min_lr=settings.min_learning_rate,
    )
