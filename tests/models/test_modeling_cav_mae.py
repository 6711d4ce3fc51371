"""CAV-MAE's models: sizes, streams, losses, frames, conventions."""

import copy

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
)

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEForAudioVisualClassification,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CAVMAEModel,
)
from cmmixer_hf.models.layers import eager_attention_forward
from cmmixer_hf.models.losses import info_nce
from cmmixer_hf.models.modeling_cav_mae import average_scores
from cmmixer_hf.models.patching import patchify, sincos_positions

SMALL = {
    "image_size": 32,
    "num_frames": 3,
    "audio_length": 64,
    "num_mel_bins": 32,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_joint_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 32,
    "num_labels": 3,
}
VIDEO_TOKENS, AUDIO_TOKENS = 4, 8
HEADS = {
    "model": CAVMAEModel,
    "pretraining": CAVMAEForPreTraining,
    "retrieval": CAVMAEForRetrieval,
    "joint": CAVMAEForAudioVisualClassification,
    "audio": CAVMAEForAudioVisualClassification,
    "video": CAVMAEForAudioVisualClassification,
}
CLASSIFIERS = ["joint", "audio", "video"]
AUTO = {
    "model": [AutoModel],
    "pretraining": [AutoModelForPreTraining],
    "joint": [AutoModelForVideoClassification, AutoModelForAudioClassification],
    "audio": [AutoModelForAudioClassification],
    "video": [AutoModelForVideoClassification],
}


def build(head: str, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    stream = {"classifier_stream": head} if head in CLASSIFIERS else {}
    model = HEADS[head](CAVMAEConfig(**(SMALL | stream | options))).eval()
    for name, parameter in model.named_parameters():  # norms that are alike would hide a stream that has another's
        if "layernorm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def clips(
    batch: int = 2, *, frames: int = 3, size: tuple[int, int] = (32, 32), time: int = 64
) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "pixel_values": torch.randn(batch, frames, 3, *size, generator=generator),
        "audio_values": torch.randn(batch, time, 32, generator=generator),
    }


def inputs(head: str, batch: int = 2, **options) -> dict[str, torch.Tensor]:
    """What a head's forward takes, with its random draws fixed."""
    both = clips(batch, **options)
    if head in ("audio", "video"):
        name = "audio_values" if head == "audio" else "pixel_values"
        return {name: both[name]}
    if head != "pretraining":
        return both
    generator = torch.Generator().manual_seed(3)
    height, width = both["pixel_values"].shape[-2:]
    return both | {
        "frame": torch.arange(batch) % both["pixel_values"].shape[1],
        "video_noise": torch.rand(batch, height * width // 256, generator=generator),
        "audio_noise": torch.rand(batch, both["audio_values"].shape[1] * 32 // 256, generator=generator),
    }


def labels(head: str) -> dict[str, torch.Tensor]:
    return {"labels": torch.tensor([0, 1])} if head in CLASSIFIERS else {}


def main_output(output) -> torch.Tensor:
    names = ("last_hidden_state", "video_logits", "video_segment_embeds", "logits")
    return next(output[name] for name in names if name in output)


# Sizes


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_the_published_ones_to_the_last_digit():
    with torch.device("meta"):
        model = CAVMAEForPreTraining(CAVMAEConfig())
    # The released layers have six norms each. Of the 22 of one modality and the 8 of the decoder only two ever act.
    never_act = 22 * 4 * 2 * 768 + 8 * 4 * 2 * 512
    tables = (512 + 196) * (768 + 512)
    assert never_act == 167_936
    assert count(model) == 189_961_984
    assert count(model) + never_act == 190_129_920
    assert count(model) + never_act + tables == 191_036_160


@pytest.mark.parametrize(("num_labels", "published"), [(527, 164_907_023), (309, 164_739_381)])
def test_fine_tuned_parameters_are_the_published_ones(num_labels, published):
    with torch.device("meta"):
        model = CAVMAEForAudioVisualClassification(CAVMAEConfig(num_labels=num_labels, learned_positions=True))
    never_act = 22 * 4 * 2 * 768 + (4 + 2) * 2 * 768  # in joint fine-tuning the norms of single streams rest too
    assert count(model) + never_act == published


# The encoder


@pytest.mark.parametrize(("frames", "size", "time"), [(1, (32, 48), 64), (3, (16, 32), 16), (2, (48, 32), 160)])
@pytest.mark.parametrize("head", HEADS)
def test_any_number_of_frames_any_size_and_any_length_of_sound_works(head, frames, size, time):
    assert main_output(build(head)(**inputs(head, frames=frames, size=size, time=time))).isfinite().all()


def test_the_encoder_never_masks_unless_asked():
    model, given = build("model").train(), inputs("model")
    output = model(**given)
    assert output.video_hidden_state.shape == (2, 3 * VIDEO_TOKENS, 32)
    assert output.audio_hidden_state.shape == (2, AUDIO_TOKENS, 32)
    assert output.last_hidden_state.shape == (2, 3 * (AUDIO_TOKENS + VIDEO_TOKENS), 32)
    assert output.video_mask is output.audio_mask is None
    assert torch.equal(output.last_hidden_state, model(**given).last_hidden_state)
    masked = model(**given, mask_ratio=0.5)
    assert masked.last_hidden_state.shape == (2, 3 * (AUDIO_TOKENS + VIDEO_TOKENS) // 2, 32)
    assert masked.video_mask.sum(1).tolist() == [VIDEO_TOKENS / 2] * 6
    assert masked.audio_mask.sum(1).tolist() == [AUDIO_TOKENS / 2] * 2


def test_removed_tokens_have_no_influence():
    model, given = build("model"), clips(frames=1)
    noise = {"video_noise": torch.arange(4.0).expand(2, -1), "audio_noise": torch.arange(8.0).expand(2, -1)}
    changed = copy.deepcopy(given)
    changed["pixel_values"][..., 16:, :] += 5  # the lower half has the larger noise
    changed["audio_values"][:, :, 16:] += 5  # and so have the higher frequencies
    outputs = [model(**both, **noise, mask_ratio=0.5) for both in (given, changed)]
    for name in ("last_hidden_state", "video_hidden_state", "audio_hidden_state"):
        assert torch.equal(*(output[name] for output in outputs))


def test_a_stream_is_the_same_whatever_else_is_given():
    model, given = build("model"), inputs("model")
    both = model(**given)
    video, audio = model(pixel_values=given["pixel_values"]), model(audio_values=given["audio_values"])
    torch.testing.assert_close(video.last_hidden_state, both.video_hidden_state)
    torch.testing.assert_close(audio.last_hidden_state, both.audio_hidden_state)
    assert video.audio_hidden_state is audio.video_hidden_state is None


def test_each_frame_meets_the_sound_alone():
    model, given = build("model"), inputs("model")
    together = model(**given)
    for number in range(3):
        alone = model(given["pixel_values"][:, number : number + 1], given["audio_values"])
        tokens = AUDIO_TOKENS + VIDEO_TOKENS
        part = together.last_hidden_state[:, number * tokens : (number + 1) * tokens]
        torch.testing.assert_close(part, alone.last_hidden_state, atol=1e-5, rtol=1e-5)
        part = together.video_hidden_state[:, number * VIDEO_TOKENS : (number + 1) * VIDEO_TOKENS]
        torch.testing.assert_close(part, alone.video_hidden_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stream", ["joint", "audio", "video"])
def test_joint_layers_follow_one_another_with_the_norms_of_their_stream(stream):
    model, given = build("model"), clips(frames=1)
    branches = model.branches
    audio = branches["audio"](given["audio_values"].transpose(1, 2)[:, None, None], None)
    video = branches["video"](given["pixel_values"], None)
    hidden_states = {"audio": audio, "video": video, "joint": torch.cat([audio, video], 1)}[stream]
    for layer in model.joint_layers:
        before, after = layer.layernorm_before[stream], layer.layernorm_after[stream]
        hidden_states = hidden_states + layer.attention(before(hidden_states))[0]
        hidden_states = hidden_states + layer.mlp(after(hidden_states))
    expected = model.layernorm[stream](hidden_states)
    name = "last_hidden_state" if stream == "joint" else f"{stream}_hidden_state"
    torch.testing.assert_close(model(**given)[name], expected)


def test_streams_share_all_weights_but_norms():
    model = build("model")
    names = {name for name, _ in model.joint_layers.named_parameters()}
    assert len(names) == 2 * (2 * 3 * 2 + 12)  # two layers; two norms for each of three streams; four + two linear maps
    assert all(("layernorm" in name) == any(stream in name for stream in CLASSIFIERS) for name in names)


@pytest.mark.parametrize(
    ("head", "given", "message"),
    [
        ("model", {}, "got neither"),
        ("joint", ["audio_values"], "takes audio with video, got audio"),
        ("audio", ["pixel_values"], "takes audio, got video"),
        ("audio", ["pixel_values", "audio_values"], "takes audio, got audio with video"),
        ("video", ["audio_values"], "takes video, got audio"),
        ("retrieval", ["pixel_values"], "get_video_features"),
        ("pretraining", ["pixel_values"], "needs both"),
    ],
)
def test_what_a_model_cannot_take_is_refused(head, given, message):
    with pytest.raises(ValueError, match=message):
        build(head)(**{name: clips()[name] for name in given})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pixel_values": torch.zeros(2, 3, 32, 32)}, r"got \(2, 3, 32, 32\)"),
        ({"pixel_values": torch.zeros(2, 3, 3, 32, 40)}, r"divisible by 16"),
        ({"pixel_values": torch.zeros(2, 3, 3, 32, 32, dtype=torch.uint8)}, "got torch.uint8"),
        ({"audio_values": torch.zeros(2, 32, 64)}, r"\(batch, time, 32\), got \(2, 32, 64\)"),
        ({"audio_values": torch.zeros(2, 70, 32)}, "divisible by 16"),
        ({"audio_values": torch.zeros(3, 64, 32)}, "frames of 2 clips and sound of 3"),
    ],
)
def test_wrong_inputs_are_refused_with_what_was_expected(changed, message):
    with pytest.raises(ValueError, match=message):
        build("model")(**(clips() | changed))


@pytest.mark.parametrize("streams", [(), ("audio", "text")])
def test_streams_that_do_not_exist_are_refused(streams):
    with pytest.raises(ValueError, match=r"some of .*'joint', 'audio', 'video'"):
        CAVMAEModel(CAVMAEConfig(**SMALL), streams=streams)


# Positions


def test_positions_are_the_published_tables_of_any_grid():
    positions = build("model").branches["audio"].positions
    positions.modality_token.data.zero_()
    for grid in ((2, 4), (8, 64), (8, 32)):
        torch.testing.assert_close(positions(grid)[0], sincos_positions(1, grid, 32))


def test_learned_positions_start_at_the_computed_ones_and_train():
    fixed, learned = (build("model", learned_positions=flag) for flag in (False, True))
    torch.testing.assert_close(fixed(**clips()).last_hidden_state, learned(**clips()).last_hidden_state)
    learned(**clips()).last_hidden_state.square().mean().backward()
    for branch in learned.branches.values():
        assert branch.positions.offsets.grad.abs().sum() > 0


def test_learned_positions_are_kept_where_the_grid_reaches():
    positions = build("model", learned_positions=True).branches["audio"].positions
    positions.offsets.data = torch.randn(1, 8, 32)
    offsets = positions.offsets.data.view(2, 4, 32)
    for rows, columns in ((2, 4), (2, 3), (2, 6), (1, 5)):
        start = sincos_positions(1, (rows, columns), 32) + positions.modality_token[0]
        moved = (positions((rows, columns))[0] - start).view(rows, columns, 32)
        known = min(columns, 4)
        torch.testing.assert_close(moved[:, :known], offsets[:rows, :known], atol=1e-5, rtol=1e-5)
        assert moved[:, known:].abs().sum() == 0


# Pre-training


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_losses_are_those_of_masked_patches_of_both(norm_pix_loss):
    model, given = build("pretraining", norm_pix_loss=norm_pix_loss), inputs("pretraining")
    output = model(**given)
    shown = given["pixel_values"][torch.arange(2), given["frame"]][:, None]
    stacks = {"video": shown, "audio": given["audio_values"].transpose(1, 2)[:, None, None]}
    for modality, stack in stacks.items():
        target = patchify(stack, 16)
        if norm_pix_loss:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
        error = (output[f"{modality}_logits"] - target)[output[f"{modality}_mask"].bool()]
        torch.testing.assert_close(output[f"{modality}_loss"], error.square().mean())
        assert output[f"{modality}_mask"].mean() == 0.75
    expected = output.video_loss + output.audio_loss + 0.01 * output.contrastive_loss
    torch.testing.assert_close(output.loss, expected)


@pytest.mark.parametrize("direction", ["video_to_audio", "symmetric"])
def test_the_contrast_is_between_means_of_visible_tokens(direction):
    model, given = build("pretraining", contrastive_direction=direction), inputs("pretraining", 5)
    output = model(**given)
    shown = given["pixel_values"][torch.arange(5), given["frame"]][:, None]
    noise = {name: given[name] for name in ("video_noise", "audio_noise")}
    encoded = model.cav_mae(shown, given["audio_values"], **noise, mask_ratio=0.75)
    video, audio = (
        torch.nn.functional.normalize(tokens.mean(1), dim=-1)
        for tokens in (encoded.video_hidden_state, encoded.audio_hidden_state)
    )
    torch.testing.assert_close(output.video_embeds, video)
    scores, pairs = video @ audio.T / 0.05, torch.arange(5)
    expected = torch.nn.functional.cross_entropy(scores, pairs)
    if direction == "symmetric":
        expected = (expected + torch.nn.functional.cross_entropy(scores.T, pairs)) / 2
    torch.testing.assert_close(output.contrastive_loss, expected)


def test_without_contrast_it_is_av_mae_and_without_reconstruction_cav():
    whole, given = build("pretraining"), inputs("pretraining")
    av_mae, cav = build("pretraining", contrastive_weight=0.0), build("pretraining", reconstruction_weight=0.0)
    for part in (av_mae, cav):
        report = part.load_state_dict(whole.state_dict(), strict=False)
        assert not report.missing_keys
        assert report.unexpected_keys
    expected, of_av_mae, of_cav = whole(**given), av_mae(**given), cav(**given)
    torch.testing.assert_close(of_av_mae.loss, expected.video_loss + expected.audio_loss)
    torch.testing.assert_close(of_cav.loss, 0.01 * expected.contrastive_loss)
    assert of_av_mae.video_embeds is of_cav.video_logits is of_cav.video_loss is None
    assert cav.decoder is None
    assert not [name for name, _ in av_mae.named_parameters() if "layernorm_before.audio" in name]


def test_one_frame_of_each_clip_is_shown():
    model, given = build("pretraining"), inputs("pretraining")
    changed = given | {"pixel_values": given["pixel_values"].clone()}
    changed["pixel_values"][0, 1:] += 1  # the first clip shows its frame 0, the second its frame 1
    changed["pixel_values"][1, ::2] += 1
    assert torch.equal(model(**given).loss, model(**changed).loss)
    changed["pixel_values"][1, 1] += 1
    assert not torch.equal(model(**given).loss, model(**changed).loss)
    drawn = build("pretraining")(**clips(64)).frame
    assert set(drawn.tolist()) == {0, 1, 2}


def test_given_draws_make_pretraining_deterministic_and_seeds_reproduce_the_others():
    model, given = build("pretraining").train(), inputs("pretraining")
    assert torch.equal(model(**given).loss, model(**given).loss)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(model(**clips()).loss.item())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("structure", ["time", "frequency", "time_frequency"])
def test_sound_can_be_masked_by_lines(structure):
    model, given = build("pretraining", audio_mask_structure=structure), inputs("pretraining", time=256)
    output = model(**given)
    mask = output.audio_mask.view(2, 2, 16)
    assert output.audio_mask.mean() == 0.75
    if structure == "time":
        assert torch.equal(mask[:, 0], mask[:, 1])
        assert mask[:, 0].sum(1).tolist() == [12, 12]
    else:
        assert mask.all(2).any(1).tolist() == [True, True]
    plain = build("pretraining")(**given)
    assert torch.equal(output.video_mask, plain.video_mask)
    assert not torch.equal(output.audio_mask, plain.audio_mask)


def test_clips_of_one_track_are_positives():
    model, given = build("pretraining"), inputs("pretraining")
    shared = model(**given, track_id=torch.tensor([4, 4])).contrastive_loss
    assert not torch.equal(shared, model(**given).contrastive_loss)
    assert model(**given, return_loss=False).loss is None


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_a_prediction_without_error_gives_back_the_original(norm_pix_loss):
    model = build("pretraining", norm_pix_loss=norm_pix_loss)
    both = clips(frames=1)
    stacks = {"pixel_values": both["pixel_values"], "audio_values": both["audio_values"].transpose(1, 2)[:, None, None]}
    for name, original in both.items():
        perfect = patchify(stacks[name], 16)
        if norm_pix_loss:
            perfect = (perfect - perfect.mean(-1, keepdim=True)) / (perfect.var(-1, keepdim=True) + 1e-6).sqrt()
        torch.testing.assert_close(model.unpatchify(perfect, original), original)


# Retrieval


def test_a_contrasted_checkpoint_loads_into_the_retriever_without_a_word(tmp_path):
    pretrained = build("pretraining")
    pretrained.save_pretrained(tmp_path)
    model, report = CAVMAEForRetrieval.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    expected = pretrained.cav_mae(**clips()).audio_hidden_state
    torch.testing.assert_close(model.eval().get_audio_features(clips()["audio_values"]).last_hidden_state, expected)


def test_inference_averages_over_frames_and_a_frame_may_be_named():
    model, stack = build("retrieval"), clips()["pixel_values"]
    each = [model.cav_mae(pixel_values=stack[:, k : k + 1]).video_hidden_state.mean(1) for k in range(3)]
    features = model.get_video_features(stack)
    mean = torch.nn.functional.normalize(torch.stack(each).mean(0), dim=-1)
    torch.testing.assert_close(features.pooler_output, mean)
    torch.testing.assert_close(features.segment_embeds, mean[:, None])
    named = model.get_video_features(stack, frame=torch.tensor([2, 0])).pooler_output
    torch.testing.assert_close(named[0], torch.nn.functional.normalize(each[2][0], dim=-1))
    torch.testing.assert_close(named[1], torch.nn.functional.normalize(each[0][1], dim=-1))


def test_training_sees_one_frame_drawn_at_random():
    model, stack = build("retrieval").train(), clips()["pixel_values"]
    each = [model.get_video_features(stack, frame=torch.full((2,), k)).pooler_output for k in range(3)]
    seen = []
    for seed in range(20):
        torch.manual_seed(seed)
        drawn = model.get_video_features(stack).pooler_output[0]
        seen += [k for k in range(3) if torch.allclose(drawn, each[k][0])]
    assert len(seen) == 20
    assert set(seen) == {0, 1, 2}


@pytest.mark.parametrize("direction", ["video_to_audio", "symmetric"])
def test_scores_are_cosines_over_the_temperature(direction):
    model = build("retrieval", temperature=0.5, contrastive_direction=direction)
    output = model(**clips(3))
    torch.testing.assert_close(output.logits_per_video, output.video_embeds @ output.audio_embeds.T / 0.5)
    torch.testing.assert_close(output.logits_per_audio, output.logits_per_video.T)
    segments = output.video_segment_embeds, output.audio_segment_embeds
    assert segments[0].shape == segments[1].shape == (3, 1, 32)
    torch.testing.assert_close(output.loss, info_nce(*segments, 0.5, direction=direction))


def test_retrieval_without_loss_takes_unequal_numbers_of_videos_and_tracks():
    output = build("retrieval")(clips(3)["pixel_values"], clips(2)["audio_values"], return_loss=False)
    assert output.logits_per_video.shape == (3, 2)


# Classification


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (torch.tensor([0, 2]), "single_label_classification"),
        (torch.tensor([[0.0, 1, 1], [1, 0, 0]]), "multi_label_classification"),
        (torch.randn(2, 3), "regression"),
    ],
)
@pytest.mark.parametrize("head", CLASSIFIERS)
def test_classifiers_know_three_problems(head, targets, problem):
    model = build(head, problem_type=problem)
    output = model(**inputs(head), labels=targets)
    functional = torch.nn.functional
    losses = {
        "single_label_classification": functional.cross_entropy,
        "multi_label_classification": functional.binary_cross_entropy_with_logits,
        "regression": functional.mse_loss,
    }
    torch.testing.assert_close(output.loss, losses[problem](output.logits, targets))
    assert model.accepts_loss_kwargs is False
    if problem != "regression":  # nobody has to say it
        unsaid = build(head)(**inputs(head), labels=targets)
        torch.testing.assert_close(unsaid.logits, output.logits)
        torch.testing.assert_close(unsaid.loss, output.loss)


@pytest.mark.parametrize(
    ("problem", "probability"),
    [
        ("single_label_classification", lambda logits: logits.softmax(-1)),
        ("multi_label_classification", torch.sigmoid),
        ("regression", lambda scores: scores),
    ],
)
@pytest.mark.parametrize("head", ["joint", "video"])
def test_inference_averages_the_probabilities_of_the_frames(head, problem, probability):
    model, given = build(head, problem_type=problem), inputs(head)
    each = [probability(model(**given, frame=torch.full((2,), k)).logits) for k in range(3)]
    torch.testing.assert_close(probability(model(**given).logits), torch.stack(each).mean(0))


def test_probabilities_of_extreme_scores_stay_finite():
    for problem in ("single_label_classification", "multi_label_classification"):
        assert average_scores(torch.tensor([[[90.0, -90.0], [90.0, -95.0]]]), problem).isfinite().all()


@pytest.mark.parametrize("head", CLASSIFIERS)
def test_a_classifier_has_the_layers_of_its_stream_alone(head, tmp_path):
    pretrained = build("pretraining")
    pretrained.save_pretrained(tmp_path)
    model, report = HEADS[head].from_pretrained(tmp_path, classifier_stream=head, output_loading_info=True)
    assert all(key.startswith(("classifier.", "layernorm.")) for key in report["missing_keys"])
    assert not report["unexpected_keys"]
    assert list(model.cav_mae.branches) == (["audio", "video"] if head == "joint" else [head])
    whole, given = pretrained.cav_mae(**clips(frames=1)), inputs(head, frames=1)
    name = "last_hidden_state" if head == "joint" else f"{head}_hidden_state"
    pooled = model.layernorm(whole[name].mean(1))
    torch.testing.assert_close(model.eval()(**given).logits, model.classifier(pooled))


# Conventions of transformers


@pytest.mark.parametrize("head", [head for head in HEADS if head not in ("model", "pretraining")])
def test_an_encoder_can_be_taken_out_of_any_head(head, tmp_path):
    model = build(head)
    model.save_pretrained(tmp_path)
    streams = model.cav_mae.streams
    encoder, report = CAVMAEModel.from_pretrained(tmp_path, streams=streams, output_loading_info=True)
    assert not any(report.values())
    torch.testing.assert_close(encoder.state_dict(), model.cav_mae.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("head", HEADS)
def test_saving_and_loading_changes_nothing(head, tmp_path):
    model, given = build(head, learned_positions=True), inputs(head)
    model.save_pretrained(tmp_path)
    expected = main_output(model(**given))
    for source in [HEADS[head], *AUTO.get(head, [])]:
        loaded, report = source.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is type(model)
        assert not any(report.values())
        assert torch.equal(main_output(loaded.eval()(**given)), expected)


@pytest.mark.parametrize("weights", [{}, {"contrastive_weight": 0.0}, {"reconstruction_weight": 0.0}])
@pytest.mark.parametrize("head", [head for head in HEADS if head != "model"])
def test_the_loss_reaches_every_parameter(head, weights):
    model = build(head, learned_positions=True, image_size=64, **weights)  # one visible token would need no attention
    model(**inputs(head, size=(64, 64)), **labels(head)).loss.backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("head", HEADS)
def test_half_precision_weights_take_float32_inputs(head):
    model, given = build(head), inputs(head)
    half = copy.deepcopy(model).to(torch.bfloat16)
    output = half(**given, **labels(head))
    expected = main_output(model(**given))
    error = (main_output(output).float() - expected).square().mean().sqrt()
    assert error < 0.05 * expected.square().mean().sqrt()
    if "loss" in output:
        assert output.loss.dtype == torch.float32
        output.loss.backward()


@pytest.mark.parametrize("head", HEADS)
def test_eager_and_sdpa_attention_agree(head):
    given = inputs(head)
    eager, sdpa = (build(head, attn_implementation=name) for name in ("eager", "sdpa"))
    torch.testing.assert_close(main_output(eager(**given)), main_output(sdpa(**given)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_layer_asks_the_attention_interface(head):
    asked = []

    def probe(module, *args, **kwargs):
        asked.append(module)
        return eager_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("probe_of_cav_mae", probe)
    model = build(head)
    model.set_attn_implementation("probe_of_cav_mae")
    model(**inputs(head))
    layers = {id(module) for module in model.modules() if type(module).__name__ == "CMMixerAttention"}
    assert {id(module) for module in asked} == layers


@pytest.mark.parametrize("head", HEADS)
def test_hidden_states_and_attentions_come_where_asked(head):
    model = build(head, attn_implementation="eager")
    output = model(**inputs(head), output_hidden_states=True, output_attentions=True)
    layers = {"model": 2 + 3 * 2, "pretraining": 2 + 3 * 2, "joint": 2 + 2}.get(head, 3)
    assert len(output.hidden_states) == layers + 1
    assert len(output.attentions) == layers
    sums = output.attentions[0].sum(-1)
    torch.testing.assert_close(sums, torch.ones_like(sums))
    if head == "retrieval":
        assert len(output.audio_hidden_states) == 4


@pytest.mark.parametrize("head", [head for head in HEADS if head != "model"])
def test_activation_checkpointing_changes_no_gradient(head):
    gradients = []
    for checkpointing in (False, True):
        model = build(head, hidden_dropout_prob=0.1).train()
        if checkpointing:
            # older transformers know it by its former name
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        torch.manual_seed(5)
        model(**inputs(head), **labels(head)).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters()})
    torch.testing.assert_close(*gradients)
