"""Explained variance of what a pre-trained model could not copy."""

import pytest
import torch
from torch import nn

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor, CMMixerForPreTraining
from cmmixer_hf.demo import World, make_row
from cmmixer_hf.evaluation.separation import score_separation

EXTRACTOR = CMMixerFeatureExtractor(image_size=32, num_frames=4, window_seconds=0.6, standardize=True)
CLIPS = [make_row(World(seed=1), index) for index in range(3)]


@pytest.fixture
def model():
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
    torch.manual_seed(0)
    return CMMixerForPreTraining(CMMixerConfig(**small, **decoder, image_size=32, patch_size=8, num_frames=4))


def test_the_originals_explain_everything_and_the_patches_means_nothing(model, monkeypatch):
    def means(patches):
        channels = patches.unflatten(-1, (64, 3))
        return channels.mean(-2, keepdim=True).expand_as(channels).flatten(-2)

    forward = model.forward
    for change, share in ((lambda patches: patches, 100), (means, 0)):

        def predict(pixel_values, audio_values, change=change, **kwargs):
            from cmmixer_hf.models.patching import patchify

            output = forward(pixel_values, audio_values, **kwargs)
            output.video_logits, output.audio_logits = (change(patchify(s, 8)) for s in (pixel_values, audio_values))
            return output

        monkeypatch.setattr(model, "forward", predict)
        scores = score_separation(model, CLIPS, EXTRACTOR)
        regions = ("video_hidden", "video_covered", "audio_hidden", "audio_covered")
        assert scores.keys() == {f"{region}{suffix}" for region in regions for suffix in ("", "_within_patches")}
        assert [scores[f"{region}_within_patches"] for region in regions] == pytest.approx([share] * 4, abs=1e-3)
        assert all(share < scores[region] < 100 or share == 100 for region in regions)


def test_a_model_that_predicts_zero_is_worse_than_the_means_and_seeds_repeat(model):
    nn.init.zeros_(model.decoders[0].heads["video"].weight)
    first, again = (score_separation(model, CLIPS, EXTRACTOR) for _ in range(2))
    assert first == again
    assert first["video_hidden"] < 0
