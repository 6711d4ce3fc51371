"""Learning rates a layer."""

import pytest
import torch

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEForAudioVisualClassification,
    CMMixerConfig,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
)
from cmmixer_hf.training.optimization import layer_decay_groups

CONFIG = CMMixerConfig(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64)


def rates(model) -> dict[str, float]:
    groups = layer_decay_groups(model, 1.0, layer_decay=0.5)
    of_parameter = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {
        name: of_parameter[id(parameter)] for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def test_rates_rise_from_the_input_to_the_head():
    rate = rates(CMMixerForVideoClassification(CONFIG))
    assert rate["cmmixer.cls_token"] == rate["cmmixer.patch_embeddings.projection.weight"] == 1 / 16
    assert [rate[f"cmmixer.layers.{i}.mlp.fc1.weight"] for i in range(3)] == [1 / 8, 1 / 4, 1 / 2]
    assert rate["cmmixer.layernorm.weight"] == rate["classifier.weight"] == 1


def test_both_towers_have_the_same_rates():
    rate = rates(CMMixerForRetrieval(CONFIG))
    tower = {name: value for name, value in rate.items() if name.startswith("video_model.")}
    assert tower == {name: rate[name.replace("video", "audio")] for name in tower}
    assert set(tower.values()) == {1 / 16, 1 / 8, 1 / 4, 1 / 2, 1}


def test_the_joint_layers_of_cav_mae_are_its_last():
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "learned_positions": True}
    config = CAVMAEConfig(**sizes, num_hidden_layers=3, num_joint_layers=2, image_size=32, audio_length=64)
    rate = rates(CAVMAEForAudioVisualClassification(config))
    for branch in ("cav_mae.branches.audio", "cav_mae.branches.video"):
        assert rate[f"{branch}.projection.weight"] == rate[f"{branch}.positions.offsets"] == 1 / 16
        assert rate[f"{branch}.layers.0.mlp.fc1.weight"] == 1 / 8
    assert [rate[f"cav_mae.joint_layers.{i}.mlp.fc1.weight"] for i in range(2)] == [1 / 4, 1 / 2]
    assert rate["cav_mae.layernorm.joint.weight"] == rate["layernorm.weight"] == rate["classifier.weight"] == 1


@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_every_trainable_parameter_is_in_one_group_and_only_matrices_decay(decay):
    model = CMMixerForVideoClassification(CONFIG)
    groups = layer_decay_groups(model, 1e-3, weight_decay=decay)
    assert torch.optim.AdamW(groups).param_groups[0]["lr"] < 1e-3  # AdamW refuses a parameter in two groups
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    for group in groups:
        assert all(group["weight_decay"] == (decay if parameter.ndim == 2 else 0) for parameter in group["params"])
