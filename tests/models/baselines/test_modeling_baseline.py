"""What holds for every baseline: CMMixerForRetrieval's surface, frozen features, learning, saving, the real loop."""

import json

import pytest
import torch
from baseline_models import BASELINES, ENCODER, build, pairs
from transformers import AutoModel

from cmmixer_hf import CMMixerForRetrieval, CMMixerModel, RetrievalIndex
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.evaluation.retrieval import embed_clips, evaluate_retrieval
from cmmixer_hf.media.reading import Sampling
from cmmixer_hf.models.baselines.frozen_features import FrozenFeatures, FrozenFeaturesConfig
from cmmixer_hf.models.baselines.modeling_baseline import BaselineForRetrieval, StandardisedFeatures
from cmmixer_hf.models.baselines.modeling_mvpt import MVPtForRetrieval
from cmmixer_hf.training.loop import TrainingSettings, train
from cmmixer_hf.training.optimization import layer_decay_groups


def fit(model: BaselineForRetrieval, steps: int = 60) -> list[float]:
    """Losses on one batch, again and again."""
    model.train()
    optimizer = torch.optim.AdamW(layer_decay_groups(model, 1e-2, weight_decay=0.0, layer_decay=1.0))
    history = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(**pairs()).loss
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    model.eval()
    return history


@pytest.mark.parametrize("name", BASELINES)
def test_the_surface_is_that_of_cmmixer(name):
    output = build(name)(**pairs())
    segments = 3 if name == "mvpt" else 1
    assert output.video_segment_embeds.shape == output.audio_segment_embeds.shape == (6, segments, 16)
    assert output.video_embeds.shape == output.audio_embeds.shape == (6, 16)
    assert output.logits_per_video.shape == (6, 6)
    torch.testing.assert_close(output.logits_per_audio, output.logits_per_video.T)
    theirs = CMMixerForRetrieval(ENCODER)(**pairs())
    assert set(theirs.keys()) <= set(output.keys())
    for embeds in (output.video_segment_embeds, output.audio_segment_embeds, output.video_embeds, output.audio_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(embeds.shape[:-1]))


@pytest.mark.parametrize("name", BASELINES)
def test_either_modality_alone_gives_what_the_pair_gives(name):
    model, given = build(name), pairs()
    output = model(**given)
    video = model.get_video_features(given["pixel_values"])
    audio = model.get_audio_features(given["audio_values"][2:3])
    assert torch.equal(video.segment_embeds, output.video_segment_embeds)
    assert torch.equal(video.pooler_output, output.video_embeds)
    torch.testing.assert_close(audio.segment_embeds[0], output.audio_segment_embeds[2])
    assert model(**given).loss == output.loss


@pytest.mark.parametrize("name", BASELINES)
def test_any_number_of_segments_and_any_size(name):
    model = build(name)
    stack = torch.randn(2, 5, 3, 48, 64)
    assert model.get_video_features(stack).segment_embeds.shape == (2, 5 if name == "mvpt" else 1, 16)
    assert model.get_audio_features(stack).segment_embeds.shape == (2, 5 if name == "mvpt" else 1, 16)


@pytest.mark.parametrize("name", BASELINES)
def test_what_is_trained_gets_a_gradient_and_what_is_frozen_none(name):
    model = build(name).train()
    before = {key: value.clone() for key, value in model.state_dict().items() if ".frozen." in key}
    model(**pairs()).loss.backward()
    trained = {key: value for key, value in model.named_parameters() if ".frozen." not in key}
    assert not [key for key, value in trained.items() if value.grad is None or not value.grad.isfinite().all()]
    assert not [key for key, value in trained.items() if value.ndim == 2 and not value.grad.any()]
    assert [id(value) for value in trained.values()] == [id(v) for v in model.parameters() if v.requires_grad]
    assert not [key for key, value in model.named_parameters() if ".frozen." in key and value.grad is not None]
    fit(model, steps=2)
    after = model.state_dict()
    assert before
    assert all(torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize("name", BASELINES)
def test_frozen_stays_in_evaluation_mode(name):
    model = build(name).train()
    assert model.training
    assert model.video_tower.training
    assert not [part for part in model.video_features.frozen.modules() if part.training]


@pytest.mark.parametrize("name", BASELINES)
def test_a_batch_is_learnt_and_then_right_pairs_lose_less(name):
    model, given = build(name), pairs()
    history = fit(model)
    assert history[-1] < 0.8 * history[0]
    wrong = given | {"audio_values": given["audio_values"].roll(1, 0)}
    assert model(**given).loss < model(**wrong).loss
    assert model(**given).logits_per_video.argmax(1).tolist() == list(range(6))


@pytest.mark.parametrize("name", BASELINES)
def test_a_shared_track_is_no_negative(name):
    model, given = build(name), pairs()
    apart = model(**given).loss
    assert model(**given, track_id=torch.arange(6)).loss == apart
    assert model(**given, track_id=torch.tensor([0, 0, 1, 1, 2, 2])).loss != apart


@pytest.mark.parametrize("name", BASELINES)
def test_saved_and_loaded_it_is_the_same_and_needs_nothing_else(name, tmp_path):
    model = build(name)
    fit(model, steps=3)  # running statistics are part of it
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, rtol=0, atol=0)
    assert loaded(**pairs()).loss == model(**pairs()).loss
    trainable = {key for key, value in model.named_parameters() if value.requires_grad}
    assert {key for key, value in loaded.named_parameters() if value.requires_grad} == trainable


def test_a_configuration_of_plain_values_is_enough(tmp_path):
    settings = {"video_features": {"encoder_config": ENCODER.to_dict()}, "audio_features": {"source": "mel_statistics"}}
    for model, sizes in BASELINES.values():
        config = model.config_class(**settings, **sizes)
        config.save_pretrained(tmp_path)
        again = model.config_class.from_pretrained(tmp_path)
        assert again.to_dict() == config.to_dict()
        assert (
            json.loads((tmp_path / "config.json").read_text())["video_features"]["encoder_config"]["hidden_size"] == 32
        )
        assert model(again).video_features.frozen.encoder.config.hidden_size == 32


def test_features_are_copied_and_stand_for_themselves():
    encoder = CMMixerModel(ENCODER)
    frozen = FrozenFeatures.from_encoder(encoder)
    sizes = BASELINES["mvpt"][1]
    model = MVPtForRetrieval.from_features(frozen, frozen, **sizes).eval()
    before = model(**pairs()).video_embeds
    with torch.no_grad():
        for parameter in [*encoder.parameters(), *frozen.parameters()]:
            parameter.zero_()
    assert torch.equal(model(**pairs()).video_embeds, before)
    assert frozen.config is not model.video_features.frozen.config


def test_features_are_standardised_by_what_training_saw():
    features = StandardisedFeatures(FrozenFeaturesConfig(source="colour_statistics")).train()
    stack = 3 * torch.randn(32, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) + 5
    seen = features(stack)
    torch.testing.assert_close(seen.mean((0, 1)), torch.zeros(96), atol=1e-4, rtol=0)
    torch.testing.assert_close(seen.std((0, 1), correction=0), torch.ones(96), atol=1e-2, rtol=0)
    for _ in range(60):
        features(stack)
    torch.testing.assert_close(features.eval()(stack), seen, atol=0.1, rtol=0)


@pytest.mark.parametrize("name", BASELINES)
def test_one_modality_alone_has_no_loss_and_a_loss_can_be_left_out(name):
    model, given = build(name), pairs()
    assert model(**given, return_loss=False).loss is None
    with pytest.raises(ValueError, match="get_video_features"):
        model(pixel_values=given["pixel_values"])


@pytest.mark.parametrize("name", BASELINES)
def test_half_precision_is_near_and_its_loss_single(name):
    model, given = build(name), pairs()
    expected = model(**given)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(**given)
    half = model.to(torch.bfloat16)(**given)
    for output in (mixed, half):
        assert output.loss.dtype == torch.float32
        assert output.loss.item() == pytest.approx(expected.loss.item(), rel=0.02)
        torch.testing.assert_close(output.video_embeds.float(), expected.video_embeds, atol=0.02, rtol=0)


@pytest.fixture(scope="module")
def prepared(clip_files, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared") / "out"
    prepare(clip_files, folder, Sampling(num_frames=2, shorter_side=32), progress=False)
    return load_prepared(folder)


@pytest.mark.parametrize("name", BASELINES)
def test_training_evaluation_and_index_take_it_as_it_is(name, prepared, extractor, tmp_path):
    folder = str(tmp_path / "run")
    settings = TrainingSettings(folder, epochs=20, warmup_epochs=1, batch_size=3, learning_rate=5e-3, logging_steps=4)
    history = train(build(name), prepared, extractor, settings, progress=False)
    losses = [entry["loss"] for entry in history]  # noisy, of batches of three
    assert sum(losses[5:]) < sum(losses[:5])
    embeddings = embed_clips(AutoModel.from_pretrained(folder), prepared, extractor, batch_size=4, progress=False)
    scores = evaluate_retrieval(embeddings)
    assert scores["video_to_audio"]["median_rank"] <= 6
    index = RetrievalIndex.build([{"title": clip} for clip in prepared["clip_id"]], embeddings.audio, model=folder)
    best = index.search(embeddings.audio[4], k=1)[0]
    assert best.item["title"] == prepared["clip_id"][4]
    assert best.score == pytest.approx(1, abs=1e-3)  # an index keeps float16
