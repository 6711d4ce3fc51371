"""Training a model on a CPU as two lanes side by side, each with half of the threads, rounded down.

The operations of a small model are over before a second thread has begun to help with them. What the lanes compute is
independent: the two towers of a retriever, or the halves of a batch in pre-training. Everything random is drawn for the
whole batch before they start, so that the losses and gradients are those of the model's own forward, to rounding.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.modules.dropout import _DropoutNd
from transformers import PreTrainedModel

from ..models.masking import masking_noise
from ..models.modeling_cmmixer import CMMixerForPreTraining, CMMixerForRetrieval, count_tokens
from .settings import TrainingSettings

Lane = Callable[[], Tensor]
Losses = dict[str, Tensor]
Forward = Callable[..., Any]


@contextmanager
def side_by_side(model: PreTrainedModel, settings: TrainingSettings, accelerator: Accelerator) -> Iterator[Forward]:
    """A forward of the prepared `model` for training, in two lanes where that is possible, and otherwise its own."""
    steps: dict[type, Callable[..., Losses]] = {CMMixerForPreTraining: _pretrain, CMMixerForRetrieval: _retrieve}
    step, threads = steps.get(type(model)), torch.get_num_threads()
    if step is None or threads < 2 or not _can_be_split(model, settings):
        yield model
        return

    def forward(**inputs: Tensor) -> Losses:
        with accelerator.autocast():
            return step(model, lanes, **inputs)

    # This thread has half as well: threads that wait for its next operation would take time from the lanes.
    with (
        ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(threads // 2,)) as lanes,
        num_threads(threads // 2),
    ):
        yield forward


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Within the block each operation has so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _can_be_split(model: PreTrainedModel, settings: TrainingSettings) -> bool:
    """Whether a step is on the CPU, draws nothing within layers, adds to gradients in one order, and is all ours."""
    config, parts = model.config, list(model.modules())
    dropout = any(getattr(part, "p", 0) for part in parts if isinstance(part, _DropoutNd))
    random = dropout or config.attention_probs_dropout_prob or config.drop_path_rate
    recomputed = settings.activation_checkpointing or config.embed_chunk_size
    hooks = any(part._forward_hooks or part._forward_pre_hooks for part in parts)
    forward = getattr(model, "_original_forward", model.forward)  # accelerate puts its own in front for half precision
    changed = hooks or getattr(forward, "__func__", None) is not type(model).forward or settings.compile
    return model.device.type == "cpu" and settings.accumulation_steps == 1 and not (random or recomputed or changed)


def _pretrain(
    model: CMMixerForPreTraining, lanes: ThreadPoolExecutor, *, pixel_values: Tensor, audio_values: Tensor
) -> Losses:
    """Both halves of the clips; each clip has as many patches in the loss as any other."""
    whole = {
        "pixel_values": pixel_values,
        "audio_values": audio_values,
        "mixing_mask": model.draw_mixing_mask(pixel_values),
        "noise": masking_noise(None, len(pixel_values), count_tokens(pixel_values, model.config)),
    }

    def losses(*half: Tensor) -> Tensor:
        output = model(**dict(zip(whole, half, strict=True)), return_dict=True)
        return torch.stack([output.video_loss, output.audio_loss]) * (len(half[0]) / len(pixel_values))

    halves = zip(*(stack.chunk(2) for stack in whole.values()), strict=True)
    video_loss, audio_loss = torch.stack(_run(lanes, *(partial(losses, *half) for half in halves))).sum(0)
    return {"loss": video_loss + audio_loss, "video_loss": video_loss, "audio_loss": audio_loss}


def _retrieve(
    model: CMMixerForRetrieval,
    lanes: ThreadPoolExecutor,
    *,
    pixel_values: Tensor,
    audio_values: Tensor,
    track_id: Tensor | None = None,
) -> Losses:
    """Both towers."""
    seen, heard = (model.draw_tokens(stack) | {"return_dict": True} for stack in (pixel_values, audio_values))
    video, audio = _run(
        lanes,
        lambda: model.get_video_features(pixel_values, **seen).segment_embeds,
        lambda: model.get_audio_features(audio_values, **heard).segment_embeds,
    )
    return {"loss": model.contrastive_loss(video, audio, track_id)}


def _run(threads: ThreadPoolExecutor, *lanes: Lane) -> tuple[Tensor, ...]:
    """What lanes compute, with gradients that are computed in the same way."""
    return _SideBySide.apply(threads, torch.zeros((), requires_grad=True), *map(_here, lanes))


def _here(lane: Lane) -> Lane:
    """In the precision of this thread, which another one does not inherit; with gradients, which a Function has off."""
    dtype, enabled = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

    def run() -> Tensor:
        with torch.enable_grad(), torch.autocast("cpu", dtype, enabled):
            return lane()

    return run


class _SideBySide(torch.autograd.Function):
    """Forward and backward of each lane in its thread; parameters collect their gradients there."""

    @staticmethod
    def forward(ctx: Any, threads: ThreadPoolExecutor, _: Tensor, *lanes: Lane) -> tuple[Tensor, ...]:
        ctx.threads, ctx.outputs = threads, list(threads.map(lambda lane: lane(), lanes))
        return tuple(output.detach() for output in ctx.outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, ...]:
        pairs = zip(ctx.outputs, gradients, strict=True)
        trained = [(output, gradient) for output, gradient in pairs if output.requires_grad]  # others are frozen
        list(ctx.threads.map(torch.autograd.backward, *zip(*trained, strict=True)))
        return (None,) * (2 + len(gradients))
