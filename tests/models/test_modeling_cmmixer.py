"""The models: sizes, losses, determinism, conventions."""

import copy

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from small_models import HEADS, TOKENS, build, inputs, main_output, stacks
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AttentionInterface,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
)

from cmmixer_hf import (
    CMMixerConfig,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerModel,
)
from cmmixer_hf.models import MissingWeightsError
from cmmixer_hf.models.layers import eager_attention_forward
from cmmixer_hf.models.patching import patchify

# Sizes: the paper's Table 3


def position_tables(config: CMMixerConfig) -> int:
    """What the paper counts for fixed tables; ours are computed."""
    return (1 + 1568) * (config.hidden_size + config.decoder_hidden_size)


@pytest.mark.parametrize(
    ("decoder", "trainable", "with_tables"), [("solo", 89_398_784, 91_005_440), ("duet", 92_755_456, 94_362_112)]
)
def test_parameters_are_the_papers_to_the_last_digit(decoder, trainable, with_tables):
    with torch.device("meta"):
        model = CMMixerForPreTraining(CMMixerConfig(decoder_type=decoder))
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    assert count == trainable
    assert count + position_tables(model.config) == with_tables


def giga_macs(model: torch.nn.Module, **tensors: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        model(**tensors)
    return counter.get_total_flops() / 2e9


@pytest.mark.parametrize(
    ("decoder", "mask_ratio", "expected"),
    [("solo", 0.75, 47.82), ("duet", 0.75, 57.88), ("solo", 0.5, 89.7), ("duet", 0.5, 99.8)],
)
def test_multiplications_of_pretraining_are_the_papers(decoder, mask_ratio, expected):
    with torch.device("meta"):
        model = CMMixerForPreTraining(CMMixerConfig(decoder_type=decoder, mask_ratio=mask_ratio)).eval()
        stack = torch.empty(1, 8, 3, 224, 224)
        macs = giga_macs(model, pixel_values=stack, audio_values=stack, mixing_mask=torch.empty(1, 8, 1, 224, 224))
    hidden_tokens = 1568 * mask_ratio  # the paper embeds them before it drops them; ours are never embedded
    assert macs + hidden_tokens * 768 * 768 / 1e9 == pytest.approx(expected, rel=0.005)


def test_multiplications_of_a_retrieval_tower_are_the_papers():
    with torch.device("meta"):
        macs = giga_macs(CMMixerModel(CMMixerConfig()).eval(), pixel_values=torch.empty(1, 8, 3, 224, 224))
    assert macs == pytest.approx(179.6, rel=0.005)


# The encoder


@pytest.mark.parametrize(("frames", "size"), [(1, (32, 48)), (3, (16, 16)), (5, (48, 32))])
@pytest.mark.parametrize("head", HEADS)
def test_any_number_of_frames_and_any_size_works(head, frames, size):
    model = build(head)
    assert main_output(model(**inputs(head, frames=frames, size=size))).isfinite().all()


def test_the_encoder_never_masks_unless_asked():
    model, given = build("model", mask_ratio=0.75).train(), inputs("model")
    output = model(**given)
    assert output.last_hidden_state.shape == (2, 1 + TOKENS, 32)
    assert output.mask is None
    assert torch.equal(output.last_hidden_state, model(**given).last_hidden_state)
    masked = model(**given, mask_ratio=0.5)
    assert masked.last_hidden_state.shape == (2, 1 + TOKENS // 2, 32)
    assert masked.mask.sum(1).tolist() == [TOKENS / 2] * 2


def test_masking_nothing_is_not_masking_but_for_the_order():
    model, given = build("model"), inputs("model")
    everything = model(**given, mask_ratio=0.0)
    tokens = everything.last_hidden_state[:, 1:].gather(1, everything.ids_restore[..., None].expand(-1, -1, 32))
    torch.testing.assert_close(tokens, model(**given).last_hidden_state[:, 1:], atol=1e-5, rtol=1e-5)


def test_removed_tokens_have_no_influence():
    model, both = build("model"), stacks()
    noise = torch.arange(TOKENS).float().expand(2, -1)
    changed = both["pixel_values"].clone()
    changed[:, 1] += 5  # the second frame's tokens have the larger noise
    first, second = (model(stack, noise=noise, mask_ratio=0.5) for stack in (both["pixel_values"], changed))
    assert torch.equal(first.last_hidden_state, second.last_hidden_state)


def test_one_encoder_takes_frames_or_spectrograms_but_not_both():
    model, both = build("model"), stacks()
    as_video = model(pixel_values=both["audio_values"]).last_hidden_state
    assert torch.equal(as_video, model(audio_values=both["audio_values"]).last_hidden_state)
    for wrong in (both, {}):
        with pytest.raises(ValueError, match="either pixel_values or audio_values"):
            model(**wrong)


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (torch.zeros(2, 3, 32, 48), r"\(batch, frames, 3, height, width\).*got \(2, 3, 32, 48\)"),
        (torch.zeros(2, 2, 1, 32, 48), r"got \(2, 2, 1, 32, 48\)"),
        (torch.zeros(0, 2, 3, 32, 48), r"got \(0, 2, 3, 32, 48\)"),
        (torch.zeros(2, 0, 3, 32, 48), r"got \(2, 0, 3, 32, 48\)"),
        (torch.zeros(2, 2, 3, 32, 0), r"got \(2, 2, 3, 32, 0\)"),
        (torch.zeros(2, 2, 3, 32, 40), r"divisible by 16, got \(2, 2, 3, 32, 40\)"),
        (torch.zeros(2, 2, 3, 32, 48, dtype=torch.uint8), "floating-point stack, got torch.uint8"),
    ],
)
def test_wrong_stacks_are_refused_with_what_was_expected(stack, message):
    with pytest.raises(ValueError, match=message):
        build("model")(stack)
    with pytest.raises(ValueError, match=message):
        build("pretraining")(pixel_values=stack, audio_values=stack)
    with pytest.raises(ValueError, match=message):
        build("retrieval", token_drop_rate=0.5).train().get_video_features(stack)


# Pre-training


@pytest.mark.parametrize("decoder", ["solo", "duet"])
def test_the_loss_is_that_of_masked_patches_or_of_all(decoder):
    given = inputs("pretraining")
    for loss_on in ("masked", "all"):
        model = build("pretraining", decoder_type=decoder, loss_on=loss_on)
        output = model(**given)
        where = output.mask.bool() if loss_on == "masked" else torch.ones_like(output.mask).bool()
        for modality, name in (("video", "pixel_values"), ("audio", "audio_values")):
            error = output[f"{modality}_logits"] - patchify(given[name], 16)
            torch.testing.assert_close(output[f"{modality}_loss"], error[where].square().mean())
        torch.testing.assert_close(output.loss, output.video_loss + output.audio_loss)


@pytest.mark.parametrize("decoder", ["solo", "duet"])
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_training_predicts_only_what_enters_the_loss(decoder, norm_pix_loss):
    model, given = build("pretraining", decoder_type=decoder, norm_pix_loss=norm_pix_loss), inputs("pretraining")
    everything = model(**given)
    assert everything.ids_predicted is None
    hidden = model.train()(**given)
    assert hidden.video_logits.shape == (2, TOKENS // 2, 768)
    places = hidden.ids_predicted[..., None].expand(-1, -1, 768)
    torch.testing.assert_close(hidden.video_logits, everything.video_logits.gather(1, places))
    torch.testing.assert_close(hidden.loss, everything.loss)
    assert everything.mask.gather(1, hidden.ids_predicted).min() == 1
    assert model(**given, return_loss=False).video_logits.shape == (2, TOKENS, 768)
    assert build("pretraining", loss_on="all").train()(**given).video_logits.shape == (2, TOKENS, 768)


def test_a_part_of_the_hidden_patches_is_decoded_another_one_each_time():
    model = build("pretraining", decoded_share=0.5).train()
    decoded = []
    for decoder in model.decoders:
        decoder.layers[0].register_forward_hook(lambda layer, args, output: decoded.append(output.shape[1]))
    outputs = [model(**stacks()) for _ in range(8)]
    visible, predicted = TOKENS // 2, TOKENS // 4
    assert decoded == [1 + visible + predicted] * 8
    for output in outputs:
        assert output.ids_predicted.shape == (2, predicted)
        assert output.mask.gather(1, output.ids_predicted).min() == 1
        target = patchify(stacks()["audio_values"], 16)
        error = output.audio_logits - target.gather(1, output.ids_predicted[..., None].expand(-1, -1, 768))
        torch.testing.assert_close(output.audio_loss, error.square().mean())
    assert len({tuple(output.ids_predicted[0].sort()[0].tolist()) for output in outputs}) > 3
    assert model.eval()(**stacks()).video_logits.shape == (2, TOKENS, 768)


@pytest.mark.parametrize("training", [False, True])
def test_a_mask_that_hides_nothing_of_a_short_clip_is_refused(training):
    model = build("pretraining", mask_ratio=0.06).train(training)
    short = {name: stack[:, :1, :, :16, :16] for name, stack in stacks().items()}
    with pytest.raises(ValueError, match=r"mask_ratio=0\.06 hides none of 1 patches"):
        model(**short)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("noise", (2, TOKENS + 1), r"\(2, 12\), got \(2, 13\)"),
        ("mixing_mask", (2, 2, 3, 32, 48), r"\(2, 2, 1, 32, 48\)"),
    ],
)
def test_draws_of_another_shape_are_refused_with_both(name, shape, message):
    with pytest.raises(ValueError, match=message):
        build("pretraining")(**stacks(), **{name: torch.zeros(shape)})


def test_a_decoder_knows_where_a_hidden_patch_lies():
    """Mask tokens are all alike but for their positions."""
    for decoder in build("pretraining", decoder_type="duet").decoders:
        hidden = torch.ones(1, TOKENS, dtype=torch.bool)
        hidden[0, :2] = False
        positions = torch.randn(1, TOKENS, 16)
        for patches in decoder(torch.randn(1, 3, 32), torch.arange(TOKENS)[None], positions).values():
            assert len(patches[hidden].round(decimals=4).unique(dim=0)) == TOKENS - 2


@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_a_prediction_without_error_gives_back_the_original(norm_pix_loss):
    model = build("pretraining", norm_pix_loss=norm_pix_loss)
    original = 2 * stacks()["pixel_values"] + 1
    perfect = patchify(original, 16)
    if norm_pix_loss:
        perfect = (perfect - perfect.mean(-1, keepdim=True)) / (perfect.var(-1, keepdim=True) + 1e-6).sqrt()
    assert model.reconstruction_loss(perfect, original, torch.ones(2, TOKENS)) < 1e-10
    torch.testing.assert_close(model.unpatchify(perfect, original), original)


def test_given_draws_make_pretraining_deterministic_and_seeds_reproduce_the_others():
    model, given = build("pretraining").train(), inputs("pretraining")
    assert torch.equal(model(**given).loss, model(**given).loss)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        losses.append(model(**stacks()).loss.item())
    assert losses[0] == losses[1] != losses[2]


def test_the_mixture_is_what_the_encoder_sees():
    model, given = build("pretraining"), inputs("pretraining")
    only_video = model(**given | {"mixing_mask": torch.ones_like(given["mixing_mask"])}, output_hidden_states=True)
    alone = model.cmmixer(given["pixel_values"], noise=given["noise"], mask_ratio=0.5, output_hidden_states=True)
    for together, apart in zip(only_video.hidden_states, alone.hidden_states, strict=True):
        assert torch.equal(together, apart)


def test_outputs_tell_what_was_drawn():
    model = build("pretraining", mixer="pixel", mask_ratio=0.75)
    output = model(**stacks())
    assert output.mixing_mask.shape == (2, 2, 1, 32, 48)
    assert output.mask.sum(1).tolist() == [TOKENS * 0.75] * 2
    assert output.video_logits.shape == output.audio_logits.shape == (2, TOKENS, 768)
    assert model(**stacks(), return_loss=False).loss is None


def test_mixer_options_reach_the_mixer():
    drawn = build("pretraining", mixer_kwargs={"level": "video"}).draw_mixing_mask(torch.zeros(64, 2, 3, 32, 48))
    assert torch.equal(drawn[:, 0], drawn[:, 1])
    drawn = build("pretraining", mixer="pixel", mixer_kwargs={"probability": 1.0})(**stacks())
    assert drawn.mixing_mask.mean() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mixer": "cutout"}, "'cutmix'.*'cutout'"), ({"mixer_kwargs": {"boxes": 2}}, "num_boxes.*'boxes'")],
)
def test_an_unknown_mixer_or_option_is_refused_when_the_model_is_built(options, message):
    with pytest.raises(StrictDataclassError, match=message):
        build("pretraining", **options)


def test_pretraining_needs_both_modalities_of_one_shape():
    model, both = build("pretraining"), stacks()
    with pytest.raises(ValueError, match="needs both"):
        model(pixel_values=both["pixel_values"])
    with pytest.raises(ValueError, match=r"\(2, 2, 3, 32, 48\).*\(2, 1, 3, 32, 48\)"):
        model(pixel_values=both["pixel_values"], audio_values=both["audio_values"][:, :1])


# Retrieval


def test_both_towers_come_from_one_checkpoint(tmp_path):
    pretrained = build("pretraining")
    pretrained.save_pretrained(tmp_path)
    model = CMMixerForRetrieval.from_encoder_pretrained(tmp_path, temperature=0.1, token_drop_rate=0.5)
    assert not model.training  # as after `from_pretrained`: features are not drawn
    for tower in (model.video_model, model.audio_model):
        torch.testing.assert_close(tower.state_dict(), pretrained.cmmixer.state_dict(), rtol=0, atol=0)
    assert model.video_model.cls_token is not model.audio_model.cls_token
    assert model.config.temperature == 0.1
    stack = stacks()["pixel_values"]
    same = model(pixel_values=stack, audio_values=stack)
    assert torch.equal(same.video_segment_embeds, same.audio_segment_embeds)


def test_a_checkpoint_without_an_encoder_is_refused(tmp_path):
    build("retrieval").save_pretrained(tmp_path)
    for wrong in (CMMixerForRetrieval.from_encoder_pretrained, CMMixerModel.from_pretrained, AutoModel.from_pretrained):
        with pytest.raises(MissingWeightsError, match=r"lacks \d+ weights of CMMixerModel .*load it with CMMixerForR"):
            wrong(str(tmp_path))


def test_changing_one_tower_changes_neither_the_other_nor_the_source():
    encoder = build("model")
    before = copy.deepcopy(encoder.state_dict())
    model = CMMixerForRetrieval.from_encoder(encoder)
    assert model.training == encoder.training
    assert CMMixerForRetrieval.from_encoder(encoder.train()).training
    model.video_model.cls_token.data += 1
    torch.testing.assert_close(encoder.state_dict(), before)
    torch.testing.assert_close(model.audio_model.state_dict(), before)


def test_segments_are_means_of_their_frames_tokens():
    model, both = build("retrieval"), stacks()
    features = model.get_video_features(both["pixel_values"])
    tokens = features.last_hidden_state[:, 1:].unflatten(1, (2, 6))
    expected = torch.nn.functional.normalize(tokens.mean(2), dim=-1)
    torch.testing.assert_close(features.segment_embeds, expected)
    pooled = torch.nn.functional.normalize(tokens.mean((1, 2)), dim=-1)  # not of the normalised segments
    torch.testing.assert_close(features.pooler_output, pooled)


def test_dropping_tokens_leaves_equally_many_of_every_segment_in_training_alone():
    model, given = build("retrieval", token_drop_rate=0.5), stacks()
    whole = build("retrieval").eval().get_video_features(given["pixel_values"])
    torch.testing.assert_close(model.eval().get_video_features(given["pixel_values"]).segment_embeds, whole[1])
    model.train()
    first, second = (model.get_video_features(given["pixel_values"]) for _ in range(2))
    masks = []
    model.video_model.register_forward_hook(lambda module, args, output: masks.append(output.mask))
    for _ in range(20):
        model.get_video_features(given["pixel_values"])
    removed = torch.stack(masks).unflatten(2, (2, TOKENS // 2)).sum(3)
    assert torch.equal(removed, torch.full_like(removed, TOKENS / 4))  # plain noise would take more of one segment
    tokens = whole.last_hidden_state.shape[1] - 1
    assert first.last_hidden_state.shape[1] == 1 + tokens // 2
    assert first.segment_embeds.shape == whole.segment_embeds.shape
    assert not torch.equal(first.segment_embeds, second.segment_embeds)
    model(**given).loss.backward()


def test_segments_of_a_masked_clip_are_means_of_what_is_seen_of_them():
    model, stack = build("retrieval").eval(), stacks()["pixel_values"]
    noise = torch.rand(stack.shape[0], model.get_video_features(stack).last_hidden_state.shape[1] - 1)
    masked = {"noise": noise, "mask_ratio": 0.5}
    found = model.get_video_features(stack, **masked).segment_embeds
    encoded = model.video_model(stack, **masked)
    kept = encoded.ids_restore.argsort(1)[:, : noise.shape[1] // 2]
    segment = kept // (noise.shape[1] // stack.shape[1])
    for clip in range(len(stack)):
        for place in segment[clip].unique():
            mean = encoded.last_hidden_state[clip, 1:][segment[clip] == place].mean(0)
            torch.testing.assert_close(found[clip, place], torch.nn.functional.normalize(mean, dim=0))


def test_scores_are_mean_segment_cosines_over_the_temperature():
    model = build("retrieval", temperature=0.5)
    output = model(**stacks(3))
    cosines = torch.einsum("ild,jld->ij", output.video_segment_embeds, output.audio_segment_embeds) / 2
    torch.testing.assert_close(output.logits_per_video, cosines / 0.5)
    torch.testing.assert_close(output.logits_per_audio, output.logits_per_video.T)


def test_shared_tracks_and_the_direction_change_the_loss():
    model = build("retrieval")
    shared = model(**stacks(), track_id=torch.tensor([4, 4])).loss
    printed = build("retrieval", contrastive_direction="video_to_audio")(**stacks()).loss
    assert len({round(loss.item(), 6) for loss in (shared, printed, model(**stacks()).loss)}) == 3


@pytest.mark.parametrize("learnable", [False, True])
def test_the_temperature_learns_only_where_asked_and_after_loading_too(learnable, tmp_path):
    build("retrieval", learnable_temperature=learnable, temperature=0.1).save_pretrained(tmp_path)
    model = CMMixerForRetrieval.from_pretrained(tmp_path)
    model(**stacks()).loss.backward()
    gradients = {name: value.grad for name, value in model.named_parameters() if "temperature" in name}
    assert all(gradient is not None for gradient in gradients.values())
    assert len(gradients) == learnable
    if learnable:
        assert model.log_temperature.exp().item() == pytest.approx(0.1)


def test_retrieval_without_loss_takes_unequal_numbers_of_videos_and_tracks():
    model = build("retrieval")
    output = model(stacks(3)["pixel_values"], stacks(2)["audio_values"], return_loss=False)
    assert output.logits_per_video.shape == (3, 2)
    with pytest.raises(ValueError, match="get_video_features"):
        model(pixel_values=stacks()["pixel_values"])


@pytest.mark.parametrize("chunk", [1, 2, 3, 5])
def test_embedding_in_chunks_changes_neither_loss_nor_gradient(chunk):
    results = []
    for size in (None, chunk):
        model = build("retrieval", embed_chunk_size=size, learnable_temperature=True).double()
        output = model(**{name: stack.double() for name, stack in stacks(5).items()})
        output.loss.backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        results.append((output.loss.detach(), output.video_embeds, output.audio_segment_embeds, gradients))
    torch.testing.assert_close(*results, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["output_hidden_states", "output_attentions"])
def test_chunks_refuse_to_keep_what_they_are_there_to_drop(name):
    with pytest.raises(ValueError, match=f"{name} keeps what embed_chunk_size=2"):
        build("retrieval", embed_chunk_size=2)(**stacks(), **{name: True})
    with pytest.raises(ValueError, match=f"{name} keeps what embed_chunk_size=2"):
        build("retrieval", embed_chunk_size=2, attn_implementation="eager", **{name: True})(**stacks())


def test_chunks_draw_the_same_dropout_in_both_passes():
    model = build("retrieval", embed_chunk_size=2, hidden_dropout_prob=0.2, drop_path_rate=0.3).train()
    outputs = []
    tower = model.video_model.layernorm
    tower.register_forward_hook(lambda module, args, output: outputs.append(output.detach()))
    model(**stacks(4)).loss.backward()
    assert len(outputs) == 4
    torch.testing.assert_close(outputs[:2], outputs[3:1:-1])  # the backward pass takes the chunks from the last


def stored_for_backward(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> int:
    """Numbers that the graph of the loss keeps."""
    kept = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(**tensors)
    return sum(kept)


def test_chunks_keep_little_more_than_their_input():
    given = stacks(16)
    whole, chunked = (stored_for_backward(build("retrieval", embed_chunk_size=size), given) for size in (None, 2))
    assert chunked - 2 * given["pixel_values"].numel() < whole / 20


# Classification


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.tensor([0, 2]), "single_label_classification"),
        (torch.tensor([[0.0, 1, 1], [1, 0, 0]]), "multi_label_classification"),
        (torch.randn(2, 3), "regression"),
    ],
)
@pytest.mark.parametrize("head", ["video_classification", "audio_classification"])
def test_classifiers_know_three_problems(head, labels, problem):
    model = build(head, problem_type=problem)
    output = model(**inputs(head), labels=labels)
    functional = torch.nn.functional
    losses = {
        "single_label_classification": functional.cross_entropy,
        "multi_label_classification": functional.binary_cross_entropy_with_logits,
        "regression": functional.mse_loss,
    }
    torch.testing.assert_close(output.loss, losses[problem](output.logits, labels))
    assert build(head)(**inputs(head)).loss is None
    assert model.accepts_loss_kwargs is False


def test_a_classifier_scores_the_mean_of_the_patch_tokens():
    model, given = build("video_classification"), inputs("video_classification")
    pooled = model.cmmixer(**given).last_hidden_state[:, 1:].mean(1)
    torch.testing.assert_close(model(**given).logits, model.classifier(pooled))


def test_drop_path_rises_linearly_in_the_encoder_alone():
    model = build("pretraining", num_hidden_layers=4, drop_path_rate=0.3)
    assert [layer.drop_path_rate for layer in model.cmmixer.layers] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert {layer.drop_path_rate for decoder in model.decoders for layer in decoder.layers} == {0.0}
    given = inputs("pretraining")
    assert torch.equal(model(**given).loss, model(**given).loss)
    assert not torch.equal(model.train()(**given).loss, model(**given).loss)


# Conventions of transformers


@pytest.mark.parametrize("head", HEADS)
def test_saving_and_loading_changes_nothing(head, tmp_path):
    model, given = build(head), inputs(head)
    model.save_pretrained(tmp_path)
    expected = main_output(model(**given))
    auto = {
        "model": AutoModel,
        "pretraining": AutoModelForPreTraining,
        "video_classification": AutoModelForVideoClassification,
        "audio_classification": AutoModelForAudioClassification,
    }
    for source in [HEADS[head], *([auto[head]] if head in auto else [])]:
        loaded, report = source.from_pretrained(tmp_path, output_loading_info=True)
        assert type(loaded) is type(model)
        assert not any(report.values())
        assert torch.equal(main_output(loaded.eval()(**given)), expected)


@pytest.mark.parametrize("head", ["model", "video_classification", "audio_classification"])
def test_a_pretrained_encoder_loads_into_other_heads(head, tmp_path):
    pretrained = build("pretraining")
    pretrained.save_pretrained(tmp_path)
    loaded, report = HEADS[head].from_pretrained(tmp_path, output_loading_info=True)
    encoder = loaded if head == "model" else loaded.cmmixer
    torch.testing.assert_close(encoder.state_dict(), pretrained.cmmixer.state_dict(), rtol=0, atol=0)
    assert all(key.startswith("classifier.") for key in report["missing_keys"])
    assert not report["unexpected_keys"]


@pytest.mark.parametrize("decoder", ["solo", "duet"])
@pytest.mark.parametrize("head", [head for head in HEADS if head != "model"])
def test_the_loss_reaches_every_parameter(head, decoder):
    model = build(head, decoder_type=decoder, learnable_temperature=True)
    labels = {"labels": torch.tensor([0, 1])} if "classification" in head else {}
    model(**inputs(head), **labels).loss.backward()
    assert [name for name, parameter in model.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("head", HEADS)
def test_half_precision_weights_take_float32_inputs(head):
    model, given = build(head), inputs(head)
    labels = {"labels": torch.tensor([0, 1])} if "classification" in head else {}
    half = copy.deepcopy(model).to(torch.bfloat16)
    output = half(**given, **labels)
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


@torch.inference_mode()  # flex attention has no backward on a CPU
@pytest.mark.parametrize("head", HEADS)
def test_flex_attention_agrees_too(head):
    given = inputs(head)
    eager, flex = (build(head, attn_implementation=name) for name in ("eager", "flex_attention"))
    torch.testing.assert_close(main_output(flex(**given)), main_output(eager(**given)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_layer_asks_the_attention_interface(head):
    asked = []

    def probe(module, *args, **kwargs):
        asked.append(module)
        return eager_attention_forward(module, *args, **kwargs)

    AttentionInterface.register("probe_of_models", probe)
    model = build(head, decoder_type="duet")
    model.set_attn_implementation("probe_of_models")
    model(**inputs(head))
    layers = {id(module) for module in model.modules() if type(module).__name__ == "CMMixerAttention"}
    assert {id(module) for module in asked} == layers
    assert len(asked) == len(layers)


@pytest.mark.parametrize("head", HEADS)
def test_hidden_states_and_attentions_come_where_asked(head):
    model = build(head, attn_implementation="eager")
    if head == "retrieval":
        output = model.get_video_features(stacks()["pixel_values"], output_hidden_states=True, output_attentions=True)
    else:
        output = model(**inputs(head), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 3
    assert len(output.attentions) == 2
    seen = output.attentions[0].shape[-1]
    torch.testing.assert_close(output.attentions[0].sum(-1), torch.ones(2, 4, seen))


@pytest.mark.parametrize("head", [head for head in HEADS if head != "model"])
def test_activation_checkpointing_changes_no_gradient(head):
    labels = {"labels": torch.tensor([0, 1])} if "classification" in head else {}
    gradients = []
    for checkpointing in (False, True):
        model = build(head, hidden_dropout_prob=0.1, drop_path_rate=0.2).train()
        if checkpointing:
            # older transformers know it by its former name
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        torch.manual_seed(5)
        model(**inputs(head), **labels).loss.backward()
        gradients.append({name: value.grad for name, value in model.named_parameters() if value.requires_grad})
    torch.testing.assert_close(*gradients)
