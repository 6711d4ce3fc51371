"""Layer-wise learning rates for fine-tuning: the closer to the input, the slower (§4.7, after MAE's recipe).

>>> from cmmixer_hf import CMMixerConfig, CMMixerModel
>>> config = CMMixerConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
>>> groups = layer_decay_groups(CMMixerModel(config), 1.0, layer_decay=0.5)
>>> sorted({group["lr"] for group in groups})
[0.125, 0.25, 0.5, 1.0]
"""

import re
from collections import defaultdict
from typing import Any

from torch import nn
from transformers import PreTrainedModel

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
