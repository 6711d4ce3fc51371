"""CAV-MAE's configuration: the published values, and what it refuses."""

import pytest

from cmmixer_hf import CAVMAEConfig


def test_the_defaults_are_the_published_values():
    config = CAVMAEConfig()
    assert (config.num_hidden_layers - config.num_joint_layers, config.num_joint_layers) == (11, 1)
    assert (config.decoder_hidden_size, config.decoder_num_hidden_layers, config.decoder_num_attention_heads) == (
        512,
        8,
        16,
    )
    assert (config.reconstruction_weight, config.contrastive_weight, config.temperature) == (1.0, 0.01, 0.05)
    assert (config.mask_ratio, config.layer_norm_eps, config.norm_pix_loss) == (0.75, 1e-5, True)
    assert (config.audio_length, config.num_mel_bins, config.num_frames) == (1024, 128, 10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"audio_mask_structure": "rows"}, "audio_mask_structure.*'rows'"),
        ({"contrastive_direction": "both"}, "contrastive_direction.*'both'"),
        ({"classifier_stream": "text"}, "classifier_stream.*'text'"),
        ({"hidden_size": 30}, "hidden_size"),
        ({"patch_size": 0}, "patch_size must be at least 1, .*got 0"),
        ({"decoder_hidden_size": 500}, "decoder_hidden_size"),
        ({"audio_length": 1000}, "audio_length.*patch_size"),
        ({"num_mel_bins": 100}, "num_mel_bins.*patch_size"),
        ({"image_size": 225}, "image_size.*patch_size"),
        ({"num_joint_layers": 0}, "num_joint_layers.*got 0"),
        ({"num_joint_layers": 13}, "num_joint_layers.*got 13"),
        ({"mask_ratio": 1.0}, "mask_ratio"),
        ({"mask_ratio": 0.0}, r"mask_ratio=0\.0 hides none of 196 patches of a frame"),
        ({"temperature": 0.0}, "temperature"),
        ({"reconstruction_weight": 0, "contrastive_weight": 0}, "loss weights"),
        ({"contrastive_weight": -1.0}, "loss weights"),
    ],
)
def test_impossible_values_are_refused_by_name(options, message):
    with pytest.raises(Exception, match=message):
        CAVMAEConfig(**options)


def test_nothing_need_be_masked_where_nothing_is_reconstructed():
    assert CAVMAEConfig(mask_ratio=0.0, reconstruction_weight=0.0).mask_ratio == 0


def test_saving_and_loading_keeps_every_field(tmp_path):
    config = CAVMAEConfig(num_joint_layers=2, audio_length=512, learned_positions=True)
    config.save_pretrained(tmp_path)
    assert CAVMAEConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()
