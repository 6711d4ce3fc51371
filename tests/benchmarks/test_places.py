"""Ways to keep place out of segments: each does what it says, and a small grid is run, kept and shown."""

import json

import places
import pytest
import torch
from places import OtherClips, PlacesSettings, ShiftedPlaces, WithoutMeans, place_share, run, table

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.demo import model_config
from cmmixer_hf.evaluation import ClipEmbeddings


@pytest.fixture
def stacks():
    return [torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]


def same_weights(model_class: type[CMMixerForRetrieval]) -> CMMixerForRetrieval:
    torch.manual_seed(0)
    return model_class(model_config(contrastive_direction="symmetric"))


def test_without_the_clips_own_negatives_each_anchor_has_those_of_other_clips_alone(stacks):
    model = same_weights(OtherClips).eval()
    found = model(*stacks)
    similarity = torch.einsum("nkd,mld->nkml", found.video_segment_embeds, found.audio_segment_embeds)
    similarity = similarity / model.config.temperature
    losses = []
    for clip in range(3):
        for place in range(4):
            right = similarity[clip, place, clip, place]
            for rows in (similarity[clip, place], similarity[:, :, clip, place]):
                others = rows[[other for other in range(3) if other != clip]].flatten()
                losses.append(torch.cat([right[None], others]).logsumexp(0) - right)
    torch.testing.assert_close(found.loss, torch.stack(losses).mean())
    assert found.loss < same_weights(CMMixerForRetrieval).eval()(*stacks).loss


def test_shifted_places_are_those_of_turned_segments_and_come_back_in_order(stacks, monkeypatch):
    plain, shifted = same_weights(CMMixerForRetrieval).eval(), same_weights(ShiftedPlaces)
    torch.testing.assert_close(
        shifted.eval().get_video_features(stacks[0]).segment_embeds, plain.get_video_features(stacks[0]).segment_embeds
    )
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor(1))
    turned = plain.get_audio_features(stacks[1].roll(1, 1)).segment_embeds.roll(-1, 1)
    torch.testing.assert_close(shifted.train().get_audio_features(stacks[1]).segment_embeds, turned)


def test_without_means_nothing_of_a_place_is_left(stacks):
    model = same_weights(WithoutMeans).eval()
    before = model.get_video_features(stacks[0]).segment_embeds
    model.means = {"video": before.mean(0), "audio": before.mean(0)}
    after = model.get_video_features(stacks[0]).segment_embeds
    torch.testing.assert_close(after, torch.nn.functional.normalize(before - before.mean(0), dim=-1))


def test_embeddings_without_a_place_meet_it_by_chance():
    generator = torch.Generator().manual_seed(0)
    segments = [torch.randn(2000, 4, 8, generator=generator) for _ in range(2)]
    assert place_share(ClipEmbeddings(*segments)) == pytest.approx(0.25, abs=0.02)


def test_every_arm_has_a_result_that_is_kept_and_shown(tmp_path):
    pretrained = str(tmp_path / "pretraining")
    CMMixerForPreTraining(model_config()).save_pretrained(pretrained)
    settings = PlacesSettings(
        output=str(tmp_path / "out"), pretrained=pretrained, seeds=[0], pairs=32, pool=12, steps=1
    )
    run(settings)
    assert len(list((tmp_path / "out").glob("*.json"))) == len(places.ABOUT)
    (tmp_path / "out" / "paper-seed0.json").write_text(
        json.dumps(json.loads((tmp_path / "out" / "paper-seed0.json").read_text()) | {"seed": 0, "arm": "shifted"})
    )
    run(settings)
    assert table(tmp_path / "out").count("| 2 |") == 1
