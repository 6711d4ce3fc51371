"""Small models of every head, and their inputs."""

import torch

from cmmixer_hf import (
    CMMixerConfig,
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from cmmixer_hf.models.patching import patchify

SMALL = {
    "image_size": (32, 48),
    "num_frames": 2,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
    "num_labels": 3,
}
TOKENS = 2 * 2 * 3
HEADS = {
    "model": CMMixerModel,
    "pretraining": CMMixerForPreTraining,
    "retrieval": CMMixerForRetrieval,
    "video_classification": CMMixerForVideoClassification,
    "audio_classification": CMMixerForAudioClassification,
}


def build(head: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    return HEADS[head](CMMixerConfig(**(SMALL | options))).eval()


def stacks(batch: int = 2, *, frames: int = 2, size: tuple[int, int] = (32, 48)) -> dict[str, torch.Tensor]:
    drawn = torch.randn(2, batch, frames, 3, *size, generator=torch.Generator().manual_seed(1))
    return dict(zip(("pixel_values", "audio_values"), drawn, strict=True))


def inputs(head: str, **options) -> dict[str, torch.Tensor]:
    """What a head's forward takes, with its random draws fixed."""
    both = stacks(**options)
    if head in ("model", "video_classification"):
        return {"pixel_values": both["pixel_values"]}
    if head == "audio_classification":
        return {"audio_values": both["audio_values"]}
    if head == "retrieval":
        return both
    mixing_mask = torch.rand(*both["pixel_values"][:, :, :1].shape, generator=torch.Generator().manual_seed(2)).round()
    tokens = patchify(both["pixel_values"], 16).shape[1]
    noise = torch.rand(len(mixing_mask), tokens, generator=torch.Generator().manual_seed(3))
    return both | {"mixing_mask": mixing_mask, "noise": noise}


def main_output(output) -> torch.Tensor:
    names = ("last_hidden_state", "video_logits", "video_segment_embeds", "logits")
    return next(output[name] for name in names if name in output)
