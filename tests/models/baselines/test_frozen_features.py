"""Frozen features: whatever the source, one vector a segment, never trained, saved whole."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from transformers import (
    ASTConfig,
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPVisionConfig,
    ConvNextConfig,
    PreTrainedModel,
    ResNetConfig,
    SegformerConfig,
    ViTConfig,
)

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining
from cmmixer_hf.models.baselines.frozen_features import FrozenFeatures, FrozenFeaturesConfig

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY = SIZES | {"image_size": 32, "patch_size": 16}
ENCODERS = {
    "cmmixer": CMMixerConfig(**TINY, hidden_dropout_prob=0.5),
    "vit": ViTConfig(**TINY, hidden_dropout_prob=0.5),
    "grey_vit": ViTConfig(**TINY, num_channels=1),
    "clip": CLIPVisionConfig(**TINY),
    "resnet": ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"),
    "convnext": ConvNextConfig(num_stages=2, hidden_sizes=[8, 16], depths=[1, 1], image_size=24),
    "spectrogram_transformer": ASTConfig(**SIZES, patch_size=16, max_length=48, num_mel_bins=32),
}


def encoder(name: str, seed: int = 0) -> PreTrainedModel:
    torch.manual_seed(seed)
    return AutoModel.from_config(ENCODERS[name]).eval()


def stack(batch: int = 2, segments: int = 3) -> torch.Tensor:
    return torch.randn(batch, segments, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ENCODERS)
def test_any_encoder_gives_one_vector_a_segment_and_is_saved_whole(name, tmp_path):
    features = FrozenFeatures.from_encoder(encoder(name)).train()
    vectors = features(stack())
    assert vectors.shape == (2, 3, features.config.feature_size)
    assert torch.equal(vectors, features(stack()))
    features.save_pretrained(tmp_path)
    loaded = FrozenFeatures.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(stack()), vectors, rtol=0, atol=0)
    for frozen in (features, loaded):
        assert not any(part.training for part in frozen.modules())
        assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_our_encoder_gives_the_mean_of_a_segments_tokens():
    ours = encoder("cmmixer")
    tokens = ours(pixel_values=stack()).last_hidden_state[:, 1:].unflatten(1, (3, 4))
    torch.testing.assert_close(FrozenFeatures.from_encoder(ours)(stack()), tokens.mean(2))


def test_an_image_model_sees_segments_one_by_one():
    frozen = FrozenFeatures.from_encoder(encoder("vit"))
    torch.testing.assert_close(frozen(stack())[1, 2], frozen(stack()[1:, 2:])[0, 0])
    hidden = encoder("vit")(stack()[1, 2:]).last_hidden_state
    torch.testing.assert_close(frozen(stack())[1, 2], hidden[0].mean(0))


def test_frames_are_brought_to_the_models_own_normalisation():
    mean, std = [0.48, 0.46, 0.41], [0.27, 0.26, 0.28]
    pictures = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    normal = (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    frozen = FrozenFeatures.from_encoder(encoder("clip"), pooling="pooler", input_mean=mean, input_std=std)
    expected = encoder("clip")(normal.flatten(0, 1)).pooler_output.unflatten(0, (2, 3))
    torch.testing.assert_close(frozen((pictures - 0.45) / 0.225), expected, atol=1e-5, rtol=1e-5)


def test_a_model_of_one_channel_gets_the_mean_of_three():
    grey = stack().mean(2, keepdim=True)
    frozen = FrozenFeatures.from_encoder(encoder("grey_vit"))
    torch.testing.assert_close(frozen(stack()), frozen(grey.expand(-1, -1, 3, -1, -1)))


def test_a_spectrogram_transformer_gets_time_by_frequency_low_first():
    sound = torch.zeros(1, 1, 3, 32, 48)
    sound[..., 30, 5] = 1.0  # the second lowest row, the sixth column
    expected = torch.zeros(1, 48, 32)
    expected[0, 5, 1] = 1.0
    name = "spectrogram_transformer"
    hidden = encoder(name)(expected).last_hidden_state
    torch.testing.assert_close(FrozenFeatures.from_encoder(encoder(name))(sound)[0], hidden.mean(1))


def test_features_copy_the_encoder():
    ours = encoder("cmmixer")
    frozen = FrozenFeatures.from_encoder(ours)
    before = frozen(stack())
    with torch.no_grad():
        ours.cls_token.add_(1)
        ours.patch_embeddings.projection.bias.add_(1)
    assert torch.equal(frozen(stack()), before)


def test_a_pretraining_checkpoint_gives_its_encoder(tmp_path):
    model = CMMixerForPreTraining(ENCODERS["cmmixer"]).eval()
    model.save_pretrained(tmp_path)
    frozen = FrozenFeatures.from_encoder_pretrained(str(tmp_path))
    torch.testing.assert_close(frozen(stack()), FrozenFeatures.from_encoder(model.cmmixer)(stack()), rtol=0, atol=0)


def test_a_model_that_also_reads_text_gives_its_eyes_alone(tmp_path):
    text = SIZES | {"vocab_size": 99, "eos_token_id": 1}
    clip = AutoModel.from_config(CLIPConfig(vision_config=TINY, text_config=text)).eval()
    clip.save_pretrained(tmp_path)
    frozen = FrozenFeatures.from_encoder_pretrained(str(tmp_path), pooling="pooler")
    expected = clip.vision_model(stack().flatten(0, 1)).pooler_output.unflatten(0, (2, 3))
    torch.testing.assert_close(frozen(stack()), expected)
    assert not [name for name, _ in frozen.named_parameters() if "text" in name]


@pytest.mark.parametrize("source", ["colour_statistics", "mel_statistics"])
def test_hand_made_features_have_the_size_they_say(source):
    frozen = FrozenFeatures(FrozenFeaturesConfig(source=source, num_cells=2, num_bands=8))
    assert frozen(stack()).shape == (2, 3, frozen.config.feature_size)
    assert not list(frozen.parameters())


def test_gradients_stop_here():
    given = stack().requires_grad_()
    assert not FrozenFeatures.from_encoder(encoder("cmmixer"))(given).requires_grad


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"source": "colours"}, r"source must be one of .*got 'colours'"),
        ({"pooling": "max"}, r"pooling must be one of .*got 'max'"),
        ({"input_mean": [0.5]}, r"both input_mean and input_std"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, complaint):
    with pytest.raises(StrictDataclassClassValidationError, match=complaint):
        FrozenFeaturesConfig(**settings)


def test_what_cannot_be_fed_or_pooled_is_refused():
    with pytest.raises(ValueError, match=r"BertModel takes input_ids"):
        FrozenFeatures.from_encoder(BertModel(BertConfig(**SIZES, vocab_size=9)))
    hierarchical = SegformerConfig(
        num_encoder_blocks=1, depths=[1], sr_ratios=[1], hidden_sizes=[8], num_attention_heads=[1]
    )
    with pytest.raises(ValueError, match=r"SegformerModel has no pooler_output"):
        FrozenFeatures.from_encoder(AutoModel.from_config(hierarchical), pooling="pooler")(stack())
    with pytest.raises(ValueError, match=r"\(batch, segments, 3, height, width\), got \(3, 32, 32\)"):
        FrozenFeatures(FrozenFeaturesConfig(source="mel_statistics"))(stack()[0, 0])
