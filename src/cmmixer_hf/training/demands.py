"""Resources of a training: a warning of its time before it begins, and advice when memory does not suffice."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from ..models.configuration_cmmixer import CMMixerConfig
from ..models.modeling_cmmixer import CMMixerForPreTraining
from .model_inputs import forward_names, without_adapters
from .settings import TrainingSettings

_SMALL = {
    "image_size": 96, "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768,
    "decoder_hidden_size": 64, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 1,
    "decoder_intermediate_size": 256,
}  # fmt: skip
HOUR = 3600.0
_logger = logging.getLogger(__name__)


class TrainingMemoryError(RuntimeError):
    """A step needs more memory than there is; the message says what to lower."""


@contextmanager
def memory_advice(model: PreTrainedModel, settings: TrainingSettings) -> Iterator[None]:
    """Turn running out of memory inside the block into [`TrainingMemoryError`]."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)):
            raise
        raise TrainingMemoryError(f"out of memory: {'; or '.join(_what_to_lower(model, settings))}") from error


def _what_to_lower(model: PreTrainedModel, settings: TrainingSettings) -> Iterator[str]:
    config, size = without_adapters(model).config, settings.batch_size
    if hasattr(config, "embed_chunk_size"):
        chunk = config.embed_chunk_size or size
        yield f"set the model's embed_chunk_size ({config.embed_chunk_size}) to {max(1, chunk // 4)}: the same loss"
    if not settings.activation_checkpointing:
        yield "set activation_checkpointing=true: a third slower, a fraction of the memory"
    advice = (
        f"lower batch_size ({size}), to {max(1, size // 2)} with accumulation_steps={2 * settings.accumulation_steps}"
    )
    yield advice + (": fewer clips compete" if "track_id" in forward_names(model) else "")


def warn_of_days(model: PreTrainedModel, settings: TrainingSettings, *, steps: int) -> None:
    """Where pre-training on this CPU takes more than an hour, say so, and what a small model would take."""
    if torch.accelerator.is_available() or not isinstance(model, CMMixerForPreTraining):
        return
    samples = steps * settings.batch_size * settings.accumulation_steps
    fields = {name: getattr(model.config, name) for name in CMMixerConfig.__annotations__}
    small = CMMixerConfig(**(fields | _SMALL))
    rate = HOUR * _operations_per_second()
    hours, few = (samples * _operations(config) / rate for config in (model.config, small))
    if hours > 1:
        sizes = ", ".join(f"{name}={_SMALL[name]}" for name in list(_SMALL)[:3])
        _logger.warning(
            "%d steps of this model take about %s on this CPU; with %s they take about %s",
            *(steps, _duration(hours), sizes, _duration(few)),
        )


def _operations(config: CMMixerConfig) -> float:
    """Floating-point operations of one sample, forward and backward."""
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        stack = torch.empty(1, config.num_frames, config.num_channels, *config.image_height_width)
        CMMixerForPreTraining(config)(pixel_values=stack, audio_values=stack)
    return 3.0 * counter.get_total_flops()


def _operations_per_second(side: int = 768) -> float:
    """What a large matrix product reaches here; a training step reaches about two thirds of it."""
    left = torch.ones(side, side)
    left @ left
    began = time.perf_counter()
    for _ in range(3):
        left @ left
    return 2 / 3 * 3 * 2 * side**3 / (time.perf_counter() - began)


def _duration(hours: float) -> str:
    """In the unit in which it is easiest to read.

    >>> _duration(0.5), _duration(30), _duration(1000)
    ('30 minutes', '30 hours', '42 days')
    """
    if hours < 2:
        return f"{60 * hours:.0f} minutes"
    return f"{hours:.0f} hours" if hours < 48 else f"{hours / 24:.0f} days"
