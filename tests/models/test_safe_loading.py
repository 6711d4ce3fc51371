"""What `from_pretrained` refuses, for every family."""

import pytest
import torch
from baseline_models import build as build_baseline
from transformers import AutoModel, AutoModelForPreTraining

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEForAudioVisualClassification,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CAVMAEModel,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from cmmixer_hf.models import MissingWeightsError
from cmmixer_hf.models.baselines import FrozenFeatures

SMALL = {"image_size": 32, "audio_length": 32, "num_mel_bins": 32, "hidden_size": 32, "num_hidden_layers": 2}
CAV_MAE = CAVMAEConfig(**SMALL, num_attention_heads=2, intermediate_size=64, decoder_hidden_size=32)


def build(family, tiny_config):
    if family == "cmmixer":
        return CMMixerModel(tiny_config)
    return CAVMAEModel(CAV_MAE) if family == "cav_mae" else build_baseline(family)


@pytest.mark.parametrize("family", ["cmmixer", "cav_mae", "cbmvr", "cmmvr", "cvmvae", "mvpt"])
def test_pickled_weights_are_loaded_only_where_asked_for(family, tiny_config, tmp_path):
    model = build(family, tiny_config)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    for loader in (type(model), AutoModel):
        with pytest.raises(OSError, match="safetensors"):
            loader.from_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path, use_safetensors=False)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("saved", "wrong"),
    [
        (CMMixerForRetrieval, CMMixerModel),
        (CMMixerForRetrieval, CMMixerForVideoClassification),
        (CMMixerForRetrieval, AutoModelForPreTraining),
        (CMMixerForRetrieval, FrozenFeatures.from_encoder_pretrained),
        (CMMixerForPreTraining, CMMixerForRetrieval),
        (CMMixerModel, CMMixerForPreTraining),
    ],
)
def test_a_checkpoint_of_other_weights_is_refused(saved, wrong, tiny_config, tmp_path):
    saved(tiny_config).save_pretrained(tmp_path)
    with pytest.raises(
        MissingWeightsError, match=rf"holds a {saved.__name__}, which lacks .*load it with {saved.__name__}"
    ):
        getattr(wrong, "from_pretrained", wrong)(str(tmp_path))


def test_a_cav_mae_without_passes_of_its_own_is_no_retriever(tmp_path):
    CAVMAEForAudioVisualClassification(CAV_MAE).save_pretrained(tmp_path)
    with pytest.raises(MissingWeightsError, match=r"weights of CAVMAEForRetrieval \(cav_mae\.joint_layers"):
        CAVMAEForRetrieval.from_pretrained(tmp_path)


@pytest.mark.parametrize("saved", [CAVMAEForPreTraining, CAVMAEForRetrieval])
def test_heads_of_one_family_load_what_they_share(saved, tmp_path):
    model = saved(CAV_MAE)
    model.save_pretrained(tmp_path)
    loaded = CAVMAEForRetrieval.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.cav_mae.branches.state_dict(), model.cav_mae.branches.state_dict())
    learning = CAVMAEForRetrieval.from_pretrained(tmp_path, learned_positions=True)
    assert not learning.cav_mae.branches["video"].positions.offsets.any()


def test_new_weights_may_be_asked_for_by_name(tiny_config, tmp_path):
    model = CMMixerModel(tiny_config)
    model.save_pretrained(tmp_path)
    loaded = CMMixerForPreTraining.from_pretrained(tmp_path, new_weights=["^decoders"])
    torch.testing.assert_close(loaded.cmmixer.state_dict(), model.state_dict())
    _, report = CMMixerForPreTraining.from_pretrained(tmp_path, output_loading_info=True)
    assert all(name.startswith("decoders") for name in report["missing_keys"])
    CMMixerForVideoClassification.from_pretrained(tmp_path)  # a new head is what this class is for


def test_half_precision_is_loaded_in_float32_unless_asked_for(tiny_config, tmp_path):
    CMMixerForRetrieval(tiny_config).half().save_pretrained(tmp_path)
    loaded = CMMixerForRetrieval.from_pretrained(tmp_path)
    assert loaded.dtype == loaded.config.dtype == torch.float32
    for dtype in ("auto", torch.float16):
        assert CMMixerForRetrieval.from_pretrained(tmp_path, dtype=dtype).dtype == torch.float16
