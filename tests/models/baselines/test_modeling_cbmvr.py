"""CBMVR: its loss by formula, its branches, and what the released code says."""

import pytest
import torch
import torch.nn.functional as F
from baseline_models import build, pairs
from huggingface_hub.errors import StrictDataclassClassValidationError

from cmmixer_hf.models.baselines.modeling_cbmvr import CBMVRConfig, segment_statistics
from cmmixer_hf.models.baselines.ranking_losses import structure_loss, triplet_loss


def test_the_loss_is_the_weighted_sum_of_four():
    model, given = build("cbmvr", margin=0.2, top_share=0.5), pairs()
    output = model(**given)
    video, audio = output.video_embeds, output.audio_embeds
    expected = 3 * triplet_loss(audio, video, margin=0.2, top_share=0.5)
    expected += triplet_loss(video, audio, margin=0.2, top_share=0.5)
    for features, embeds, stack in (
        (model.video_features, video, given["pixel_values"]),
        (model.audio_features, audio, given["audio_values"]),
    ):
        before = features(stack)
        pooled = torch.cat([before.mean(1), before.var(1, correction=0).sqrt()], 1)
        expected += 0.2 * structure_loss(pooled, embeds)
    torch.testing.assert_close(output.loss, expected)


def test_a_branch_is_layers_batch_norm_and_l2():
    model, given = build("cbmvr"), pairs()
    pooled = segment_statistics(model.video_features(given["pixel_values"]))
    first, last, norm = model.video_tower.layers[0], model.video_tower.layers[3], model.video_tower.norm
    raw = last(first(pooled).relu())
    scaled = (raw - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    expected = F.normalize(scaled, dim=-1)
    torch.testing.assert_close(model.get_video_features(given["pixel_values"]).pooler_output, expected)


def test_the_order_of_segments_does_not_matter():
    model, stack = build("cbmvr"), pairs()["pixel_values"]
    stack = model.video_features(stack)
    torch.testing.assert_close(model.video_tower(stack), model.video_tower(stack.flip(1)))


def test_without_activation_a_branch_is_linear():
    tower = build("cbmvr", hidden_act="linear").video_tower.layers
    one, other = torch.randn(2, 4, 64)
    torch.testing.assert_close(tower(one + other) - tower(other), tower(one) - tower(torch.zeros(4, 64)))


def test_the_defaults_are_those_of_the_released_code():
    config = CBMVRConfig()
    assert (config.video_features.source, config.audio_features.source) == ("encoder", "mel_statistics")
    assert (config.audio_to_video_weight, config.video_to_audio_weight, config.structure_weight) == (3, 1, 0.2)
    assert (tuple(config.video_hidden_sizes), tuple(config.audio_hidden_sizes)) == ((2048,), (2048, 1024))


def test_a_share_of_no_candidates_is_refused():
    with pytest.raises(StrictDataclassClassValidationError, match=r"top_share must lie in \(0, 1\], got 0"):
        CBMVRConfig(top_share=0)
