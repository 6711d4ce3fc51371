"""The configuration: what it refuses, what survives saving."""

from dataclasses import fields

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig

from cmmixer_hf import CMMixerConfig


def test_defaults_are_the_papers():
    config = CMMixerConfig()
    encoder = (config.hidden_size, config.num_hidden_layers, config.num_attention_heads, config.intermediate_size)
    assert encoder == (768, 12, 12, 3072)
    assert (config.num_frames, config.patch_size, config.image_height_width) == (8, 16, (224, 224))
    assert (config.mixer, config.mask_ratio, config.temperature, config.decoder_type) == ("cutmix", 0.5, 0.3, "solo")


def test_every_field_survives_saving(tmp_path):
    changed = CMMixerConfig(
        image_size=(32, 64),
        decoder_type="duet",
        mixer="cutmix",
        mixer_kwargs={"num_boxes": 2, "level": "video"},
        id2label={0: "rain", 1: "wind"},
        label2id={"rain": 0, "wind": 1},
        drop_path_rate=0.1,
    )
    changed.save_pretrained(tmp_path)
    loaded = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, CMMixerConfig)
    expected = changed.to_dict() | {"image_size": [32, 64], "_name_or_path": str(tmp_path)}
    assert loaded.to_dict() == expected
    assert loaded.image_height_width == (32, 64)
    assert loaded.id2label == {0: "rain", 1: "wind"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_type": "trio"}, "decoder_type must be one of .*'solo', 'duet'.*'trio'"),
        ({"loss_on": "visible"}, "'masked', 'all'.*'visible'"),
        ({"contrastive_direction": "audio_to_video"}, "'symmetric', 'video_to_audio'.*'audio_to_video'"),
        ({"mixer": "cutout"}, "'cutmix', 'pixel', 'mixup'.*'cutout'"),
        ({"mixer_kwargs": {"boxes": 2}}, "'direction', 'level', 'num_boxes'.*'boxes'"),
        ({"decoded_share": 0}, r"decoded_share must lie in \(0, 1\].*got 0"),
        ({"decoded_share": 0.5, "loss_on": "all"}, "loss_on='masked', got 0.5"),
        ({"image_size": 16, "num_frames": 1}, "mask_ratio=0.5 hides none of 1 patches"),
        ({"hidden_size": 100}, r"hidden_size \(100\).*num_attention_heads \(12\)"),
        ({"decoder_num_attention_heads": 3}, r"decoder_hidden_size \(256\).*\(3\)"),
        ({"image_size": (224, 100)}, r"image_size \(100\).*patch_size \(16\)"),
        ({"hidden_size": 6, "num_attention_heads": 1}, r"hidden_size \(6\).*\(4\)"),
        ({"mask_ratio": 1.0}, r"mask_ratio must lie in \[0, 1\), got 1.0"),
        ({"mask_ratio": 0.0}, "mask_ratio=0.0 hides none of 1568 patches"),
        ({"drop_path_rate": 1}, r"drop_path_rate must lie in \[0, 1\), got 1"),
        ({"embed_chunk_size": 0}, "embed_chunk_size must be at least 1, got 0"),
        ({"patch_size": 0}, "patch_size must be at least 1, .*got 0"),
        ({"num_attention_heads": 0}, "num_attention_heads must be at least 1, .*got 0"),
        ({"num_hidden_layers": -1}, "num_hidden_layers must be at least 1, .*got -1"),
        ({"image_size": [32, 32, 3]}, r"image_size must .* \(height, width\) or one number, got \[32, 32, 3\]"),
        ({"temperature": float("nan")}, "temperature must be positive, got nan"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
    ],
)
def test_impossible_values_are_refused_with_both_sides(options, message):
    with pytest.raises((ValueError, StrictDataclassError), match=message):
        CMMixerConfig(**options)


@pytest.mark.parametrize("options", [{"hidden_size": "768"}, {"norm_pix_loss": 1.5}, {"mixer": 3}])
def test_wrong_types_are_refused(options):
    with pytest.raises(StrictDataclassError, match=next(iter(options))):
        CMMixerConfig(**options)


def test_every_field_is_documented():
    inherited = {field.name for field in fields(CMMixerConfig.__mro__[1])}
    own = {field.name for field in fields(CMMixerConfig)} - inherited
    assert [name for name in sorted(own) if name not in CMMixerConfig.__doc__] == []


def test_only_embeddings_and_class_scores_are_gathered_in_evaluation():
    ignored = set(CMMixerConfig.keys_to_ignore_at_inference)
    kept = {"video_embeds", "audio_embeds", "video_segment_embeds", "audio_segment_embeds", "logits"}
    assert not ignored & kept
    assert "keys_to_ignore_at_inference" not in CMMixerConfig().to_dict()
