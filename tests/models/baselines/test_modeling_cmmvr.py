"""CMMVR: ranking alone, on learned features."""

import torch
from baseline_models import build, pairs

from cmmixer_hf.models.baselines.modeling_cbmvr import CMMVRConfig
from cmmixer_hf.models.baselines.ranking_losses import triplet_loss


def test_the_loss_is_ranking_in_both_directions():
    output = build("cmmvr")(**pairs())
    video, audio = output.video_embeds, output.audio_embeds
    torch.testing.assert_close(output.loss, triplet_loss(video, audio) + triplet_loss(audio, video))


def test_both_modalities_are_described_by_encoders():
    config = CMMVRConfig()
    assert (config.video_features.source, config.audio_features.source) == ("encoder", "encoder")
    assert CMMVRConfig(audio_features={"source": "mel_statistics"}).audio_features.source == "mel_statistics"
