"""Every class leaves torch: as ONNX, with equal outputs, and with eight-bit weights."""

import numpy as np
import pytest
import torch
import transformers

import cmmixer_hf

CMMIXER = {
    "CMMixerModel": ["pixel_values"],
    "CMMixerForPreTraining": ["pixel_values", "audio_values", "noise", "mixing_mask"],
    "CMMixerForRetrieval": ["pixel_values", "audio_values"],
    "CMMixerForVideoClassification": ["pixel_values"],
    "CMMixerForAudioClassification": ["audio_values"],
}
CAV_MAE = {
    "CAVMAEModel": ["pixel_values", "audio_values"],
    "CAVMAEForPreTraining": ["pixel_values", "audio_values", "frame", "video_noise", "audio_noise"],
    "CAVMAEForRetrieval": ["pixel_values", "audio_values"],
    "CAVMAEForAudioVisualClassification": ["pixel_values", "audio_values"],
}
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def make(name: str) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """A small model and what it takes of two clips."""
    torch.manual_seed(0)
    if name in CMMIXER:
        config = cmmixer_hf.CMMixerConfig(image_size=32, num_frames=2, **SMALL)
        sound, tokens = (2, 2, 3, 32, 32), {"noise": 8}
    else:
        config = cmmixer_hf.CAVMAEConfig(image_size=32, num_frames=2, audio_length=64, num_mel_bins=32, **SMALL)
        sound, tokens = (2, 64, 32), {"video_noise": 4, "audio_noise": 8}
    made = {"pixel_values": torch.randn(2, 2, 3, 32, 32), "audio_values": torch.randn(sound)}
    made |= {"mixing_mask": torch.rand(2, 2, 1, 32, 32).round(), "frame": torch.tensor([0, 1])}
    made |= {key: torch.rand(2, count) for key, count in tokens.items()}
    model = getattr(cmmixer_hf, name)(config).eval()
    return model, {key: made[key] for key in (CMMIXER | CAV_MAE)[name]}


@pytest.mark.parametrize("name", [*CMMIXER, *CAV_MAE])
def test_onnx_gives_the_same(name, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra `export`")
    runtime = pytest.importorskip("onnxruntime", reason="needs the extra `export`")
    model, inputs = make(name)
    with torch.no_grad():
        expected = [value for value in model(**inputs).to_tuple() if isinstance(value, torch.Tensor)]
        torch.onnx.export(model, (), kwargs=inputs, dynamo=True, verbose=False).save(tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    # An input that is an output, too, has another name inside.
    given = {entry.name: inputs[entry.name.removesuffix("_orig")].numpy() for entry in session.get_inputs()}
    found = session.run(None, given)
    assert len(found) == len(expected)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-5)


@pytest.mark.parametrize("name", ["CMMixerForRetrieval", "CAVMAEForRetrieval"])
def test_eight_bit_weights_change_little(name):
    model, inputs = make(name)
    with torch.no_grad():
        whole = model.get_video_features(inputs["pixel_values"]).segment_embeds
        small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
        quantized = small.get_video_features(inputs["pixel_values"]).segment_embeds
    assert (whole * quantized).sum(-1).min() > 0.99


@pytest.mark.parametrize("name", ["CMMixerForRetrieval", "CAVMAEForRetrieval"])
def test_torchao_loads_eight_bit_weights(name, tmp_path):
    ao = pytest.importorskip("torchao.quantization", reason="needs torchao")
    model, inputs = make(name)
    model.save_pretrained(tmp_path)
    options = {"quantization_config": transformers.TorchAoConfig(ao.Int8WeightOnlyConfig())}
    small = type(model).from_pretrained(tmp_path, **options).eval()
    with torch.no_grad():
        found, whole = (each.get_video_features(inputs["pixel_values"]).segment_embeds for each in (small, model))
    assert (whole * found).sum(-1).min() > 0.99
    assert not torch.equal(whole, found)
