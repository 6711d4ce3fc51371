"""MVPt: Eq. 2 on segments that know their neighbours and their place."""

import pytest
import torch
from baseline_models import build, pairs
from huggingface_hub.errors import StrictDataclassClassValidationError

from cmmixer_hf.models.baselines.modeling_mvpt import MVPtConfig
from cmmixer_hf.models.losses import info_nce


def test_the_loss_is_info_nce_over_segments():
    output = build("mvpt", temperature=0.2)(**pairs())
    expected = info_nce(output.video_segment_embeds, output.audio_segment_embeds, 0.2)
    torch.testing.assert_close(output.loss, expected)


def test_a_segment_sees_its_neighbours():
    model = build("mvpt")
    features = model.audio_features(pairs()["audio_values"])
    changed = features.clone()
    changed[:, 2] += 1
    before, after = model.audio_tower(features), model.audio_tower(changed)
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-4


def test_a_segment_knows_its_place():
    model = build("mvpt")
    features = model.audio_features(pairs()["audio_values"])
    swapped = model.audio_tower(features.flip(1)).flip(1)
    assert (model.audio_tower(features) - swapped).abs().max() > 1e-3


def test_all_implementations_of_attention_agree():
    eager, sdpa = (build("mvpt", attn_implementation=name) for name in ("eager", "sdpa"))
    assert (eager.config._attn_implementation, sdpa.config._attn_implementation) == ("eager", "sdpa")
    torch.testing.assert_close(eager(**pairs()).video_segment_embeds, sdpa(**pairs()).video_segment_embeds)


def test_a_width_that_does_not_divide_is_refused():
    with pytest.raises(StrictDataclassClassValidationError, match=r"embedding_size \(18\).*num_attention_heads \(4\)"):
        MVPtConfig(embedding_size=18)
