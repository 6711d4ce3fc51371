"""The released CAV-MAE's weights: what ours computes with them is what the published equations give."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoFeatureExtractor, AutoModelForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from cmmixer_hf import CAVMAEForAudioVisualClassification, CAVMAEForPreTraining, CAVMAEForRetrieval, CAVMAEModel
from cmmixer_hf.cli import main
from cmmixer_hf.hub.conversion import ConvertSettings, build, convert, fill_weights
from cmmixer_hf.models.patching import sincos_positions

HIDDEN, HEADS, WIDE, WIDTH, DECODER_HEADS = 128, 2, 96, 32, 16
SIDE, TIME = 32, 64
TOKENS = {"a": 8 * TIME // 16, "v": (SIDE // 16) ** 2}
GRIDS = {"a": (8, TIME // 16), "v": (SIDE // 16, SIDE // 16)}
NAMES = {"a": "audio", "v": "video"}
Weights = dict[str, Tensor]


def block_shapes(name: str, width: int, wide: int) -> dict[str, tuple[int, ...]]:
    """One released layer: six norms, whether they act or not."""
    shapes = {f"{name}.norm{i}{stream}.{kind}": (width,) for i in (1, 2) for stream in ("", "_a", "_v")
              for kind in ("weight", "bias")}  # fmt: skip
    maps = {
        "attn.qkv": (3 * width, width),
        "attn.proj": (width, width),
        "mlp.fc1": (wide, width),
        "mlp.fc2": (width, wide),
    }
    shapes |= {f"{name}.{part}.weight": shape for part, shape in maps.items()}
    return shapes | {f"{name}.{part}.bias": shape[:1] for part, shape in maps.items()}


def encoder_shapes(joint_layers: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for m, channels in (("a", 1), ("v", 3)):
        shapes[f"modality_{m}"] = (1, 1, HIDDEN)
        shapes |= {f"patch_embed_{m}.proj.weight": (HIDDEN, channels, 16, 16), f"patch_embed_{m}.proj.bias": (HIDDEN,)}
        shapes |= block_shapes(f"blocks_{m}.0", HIDDEN, WIDE) | block_shapes(f"blocks_{m}.1", HIDDEN, WIDE)
    for i in range(joint_layers):
        shapes |= block_shapes(f"blocks_u.{i}", HIDDEN, WIDE)
    return shapes | {f"norm{m}.{kind}": (HIDDEN,) for m in ("", "_a", "_v") for kind in ("weight", "bias")}


def decoder_shapes() -> dict[str, tuple[int, ...]]:
    shapes = {"decoder_embed.weight": (WIDTH, HIDDEN), "decoder_embed.bias": (WIDTH,), "mask_token": (1, 1, WIDTH)}
    shapes |= block_shapes("decoder_blocks.0", WIDTH, 64)
    shapes |= {"decoder_norm.weight": (WIDTH,), "decoder_norm.bias": (WIDTH,)}
    for m, pixels in (("a", 256), ("v", 768)):
        shapes[f"decoder_modality_{m}"] = (1, 1, WIDTH)
        shapes |= {f"decoder_pred_{m}.weight": (pixels, WIDTH), f"decoder_pred_{m}.bias": (pixels,)}
    return shapes


def head_shapes(num_labels: int) -> dict[str, tuple[int, ...]]:
    norm = {"mlp_head.0.weight": (HIDDEN,), "mlp_head.0.bias": (HIDDEN,)}
    return norm | {"mlp_head.1.weight": (num_labels, HIDDEN), "mlp_head.1.bias": (num_labels,)}


def released(*, joint_layers: int = 1, num_labels: int | None = None, learned: bool = False) -> Weights:
    """Random weights under the released names, saved from a parallel model."""
    shapes = encoder_shapes(joint_layers) | (decoder_shapes() if num_labels is None else head_shapes(num_labels))
    generator = torch.Generator().manual_seed(0)
    weights = {name: 0.1 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    tables = {"pos_embed": HIDDEN} | ({"decoder_pos_embed": WIDTH} if num_labels is None else {})
    for table, width in tables.items():
        for m, grid in GRIDS.items():
            weights[f"{table}_{m}"] = sincos_positions(1, grid, width)[None]
            if learned:
                weights[f"{table}_{m}"] += 0.1 * torch.randn(1, TOKENS[m], width, generator=generator)
    return {f"module.{name}": weight for name, weight in weights.items()}


# The published equations, written out


def norm(x: Tensor, w: Weights, name: str) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)


def linear(x: Tensor, w: Weights, name: str) -> Tensor:
    return functional.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def block(x: Tensor, w: Weights, name: str, *, stream: str = "", heads: int = HEADS) -> Tensor:
    """x′ = MSA(LN1(x)) + x; MLP(LN2(x′)) + x′, with the norms of the stream."""
    batch, tokens, width = x.shape
    qkv = linear(norm(x, w, f"{name}.norm1{stream}"), w, f"{name}.attn.qkv")
    q, k, v = qkv.view(batch, tokens, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
    attended = (q @ k.transpose(2, 3) * (width // heads) ** -0.5).softmax(-1) @ v
    x = x + linear(attended.transpose(1, 2).reshape(batch, tokens, width), w, f"{name}.attn.proj")
    inner = functional.gelu(linear(norm(x, w, f"{name}.norm2{stream}"), w, f"{name}.mlp.fc1"))
    return x + linear(inner, w, f"{name}.mlp.fc2")


def blocks(x: Tensor, w: Weights, name: str, **options) -> Tensor:
    """All layers of that name, one after the other."""
    number = 0
    while f"{name}.{number}.norm1.weight" in w:
        x = block(x, w, f"{name}.{number}", **options)
        number += 1
    return x


def embed(images: Tensor, w: Weights, m: str) -> Tensor:
    """A strided convolution, the position table, the modality's vector."""
    tokens = functional.conv2d(images, w[f"patch_embed_{m}.proj.weight"], w[f"patch_embed_{m}.proj.bias"], stride=16)
    return tokens.flatten(2).transpose(1, 2) + w[f"pos_embed_{m}"] + w[f"modality_{m}"]


def patches(images: Tensor) -> Tensor:
    """Normalised patches, rows, then columns, then channels."""
    channels = images.shape[1]
    cut = functional.unfold(images, 16, stride=16).transpose(1, 2)
    cut = cut.unflatten(2, (channels, 256)).transpose(2, 3).flatten(2)
    return (cut - cut.mean(-1, keepdim=True)) / (cut.var(-1, keepdim=True) + 1e-6).sqrt()


def published_pretraining(w: Weights, images: dict[str, Tensor], noise: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything that the published model computes in a step of pre-training."""
    kept, order, tokens = {}, {}, {}
    for m in "av":
        order[m] = noise[m].argsort(1)
        kept[m] = order[m][:, : TOKENS[m] // 4]
        visible = torch.stack([x[ids] for x, ids in zip(embed(images[m], w, m), kept[m], strict=True)])
        tokens[m] = blocks(visible, w, f"blocks_{m}")
    joint = norm(blocks(torch.cat([tokens["a"], tokens["v"]], 1), w, "blocks_u"), w, "norm")
    means = {}
    for m in "av":
        alone = norm(blocks(tokens[m], w, "blocks_u", stream=f"_{m}"), w, f"norm_{m}")
        means[m] = functional.normalize(alone.mean(1), dim=-1)
    decoded = linear(joint, w, "decoder_embed")
    sequence = []
    for m, part in (("a", decoded[:, : TOKENS["a"] // 4]), ("v", decoded[:, TOKENS["a"] // 4 :])):
        full = w["mask_token"].expand(len(part), TOKENS[m], WIDTH).clone()
        for row, ids, visible in zip(full, kept[m], part, strict=True):
            row[ids] = visible
        sequence.append(full + w[f"decoder_pos_embed_{m}"] + w[f"decoder_modality_{m}"])
    decoded = norm(blocks(torch.cat(sequence, 1), w, "decoder_blocks", heads=DECODER_HEADS), w, "decoder_norm")
    found = {}
    for m, part in (("a", decoded[:, : TOKENS["a"]]), ("v", decoded[:, TOKENS["a"] :])):
        logits = linear(part, w, f"decoder_pred_{m}")
        hidden = torch.ones(len(part), TOKENS[m]).scatter(1, kept[m], 0).bool()
        error = (logits - patches(images[m])).square().mean(-1)
        found |= {f"{NAMES[m]}_logits": logits, f"{NAMES[m]}_loss": error[hidden].mean()}
    scores = means["a"] @ means["v"].T / 0.05  # a column is a video among all sounds
    found["contrastive_loss"] = -scores.log_softmax(0).diag().mean()
    found["loss"] = found["audio_loss"] + found["video_loss"] + 0.01 * found["contrastive_loss"]
    return found | {"audio_embeds": means["a"], "video_embeds": means["v"]}


def published_fine_tuned(w: Weights, images: dict[str, Tensor]) -> Tensor:
    """Scores from what is given, sound, pictures or both."""
    tokens = {m: blocks(embed(images[m], w, m), w, f"blocks_{m}") for m in images}
    stream = "" if len(images) == 2 else f"_{next(iter(images))}"
    x = norm(blocks(torch.cat(list(tokens.values()), 1), w, "blocks_u", stream=stream), w, f"norm{stream}")
    return linear(norm(x.mean(1), w, "mlp_head.0"), w, "mlp_head.1")


@pytest.fixture
def clips() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "pixel_values": torch.randn(3, 1, 3, SIDE, SIDE, generator=generator),
        "audio_values": torch.randn(3, TIME, 128, generator=generator),
    }


def as_images(clips: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the published forward sees them: frequency down, time across."""
    return {"a": clips["audio_values"].transpose(1, 2)[:, None], "v": clips["pixel_values"][:, 0]}


def bare(state: Weights) -> Weights:
    return {name.removeprefix("module."): weight for name, weight in state.items()}


def converted(state: Weights, **settings):
    model, _, layout = build(state, ConvertSettings("", "", **settings))
    return model.eval(), fill_weights(model, state, layout)


# What the tests hold


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("joint_layers", [1, 2])
def test_pretraining_is_the_published_one(clips, joint_layers, learned):
    state = released(joint_layers=joint_layers, learned=learned)
    model, _ = converted(state)
    generator = torch.Generator().manual_seed(3)
    noise = {m: torch.rand(3, TOKENS[m], generator=generator) for m in "av"}
    ours = model(**clips, video_noise=noise["v"], audio_noise=noise["a"])
    for name, expected in published_pretraining(bare(state), as_images(clips), noise).items():
        torch.testing.assert_close(ours[name], expected, atol=1e-5, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("stream", ["joint", "audio", "video"])
def test_fine_tuned_scores_are_the_published_ones_and_so_are_their_trained_positions(clips, stream):
    state = released(num_labels=5, learned=True)
    model, report = converted(state, classifier_stream=stream)
    names = {"joint": ["pixel_values", "audio_values"], "audio": ["audio_values"], "video": ["pixel_values"]}[stream]
    given = {name: clips[name] for name in names}
    modalities = {"joint": "av", "audio": "a", "video": "v"}[stream]
    expected = published_fine_tuned(bare(state), {m: as_images(clips)[m] for m in modalities})
    torch.testing.assert_close(model(**given).logits, expected, atol=1e-5, rtol=1e-5)
    assert isinstance(model, CAVMAEForAudioVisualClassification)
    assert not report.missing


def test_every_key_is_accounted_for():
    state = released()
    model, report = converted(state)
    assert not report.missing
    assert not report.unused
    assert not report.unfitting
    assert sorted([*report.used, *report.replaced, *report.inactive]) == sorted(state)
    # Two layers a modality and one of the decoder, each with four norms that never act.
    assert len(report.inactive) == (2 * 2 + 1) * 4 * 2
    assert all("norm" in name and name.split(".")[-2][-2:] in ("_a", "_v") for name in report.inactive)
    assert not [name for name in report.inactive if "blocks_u" in name]
    assert set(report.replaced.values()) == {0.0}
    assert len(report.replaced) == 4
    filled = [ours for names in report.used.values() for ours in names]
    assert sorted(filled) == sorted(model.state_dict())


def test_trained_tables_are_kept_and_computed_ones_replaced():
    for learned in (False, True):
        model, report = converted(released(learned=learned))
        assert model.config.learned_positions is learned
        assert bool(report.replaced) is not learned
        assert model.config.audio_length == TIME


def test_sizes_are_read_from_the_weights():
    config = converted(released(joint_layers=2, num_labels=5))[0].config
    assert (config.hidden_size, config.num_attention_heads, config.intermediate_size) == (HIDDEN, HEADS, WIDE)
    assert (config.num_hidden_layers, config.num_joint_layers, config.num_labels) == (4, 2, 5)
    assert (config.image_size, config.audio_length, config.num_mel_bins) == (SIDE, TIME, 128)
    decoder = converted(released())[0].config
    assert (decoder.decoder_hidden_size, decoder.decoder_num_hidden_layers) == (WIDTH, 1)
    assert decoder.decoder_num_attention_heads == DECODER_HEADS


def test_weights_without_a_part_of_the_encoder_are_refused():
    state = released()
    del state["module.blocks_u.0.norm1_a.weight"]
    with pytest.raises(ValueError, match=r"incomplete.*joint_layers\.0\.layernorm_before\.audio\.weight"):
        converted(state)
    with pytest.raises(ValueError, match="pos_embed_a"):
        converted({name: weight for name, weight in state.items() if "pos_embed" not in name})


def test_the_command_writes_a_model_that_retrieves_and_an_account(tmp_path, clips, capsys):
    state = released()
    torch.save(state, tmp_path / "released.pth")
    assert main(["convert", str(tmp_path / "released.pth"), str(tmp_path / "ours")]) == 0
    assert "inactive   module.blocks_a.0.norm1_a.weight" in capsys.readouterr().out
    assert (tmp_path / "ours" / "conversion.txt").read_text().count("\n") == len(state)
    assert isinstance(AutoModelForPreTraining.from_pretrained(tmp_path / "ours"), CAVMAEForPreTraining)
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "ours").audio_length == TIME
    retriever = CAVMAEForRetrieval.from_pretrained(tmp_path / "ours").eval()
    w, audio = bare(state), as_images(clips)["a"]
    alone = norm(blocks(blocks(embed(audio, w, "a"), w, "blocks_a"), w, "blocks_u", stream="_a"), w, "norm_a")
    expected = functional.normalize(alone.mean(1), dim=-1)
    features = retriever.get_audio_features(clips["audio_values"])
    torch.testing.assert_close(features.pooler_output, expected, atol=1e-5, rtol=1e-5)


# From MAE, as the authors of CAV-MAE began


@pytest.fixture
def vit_mae() -> ViTMAEForPreTraining:
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=SIDE, patch_size=16, hidden_size=HIDDEN, num_hidden_layers=3, num_attention_heads=HEADS,
        intermediate_size=WIDE, decoder_hidden_size=WIDTH, decoder_num_hidden_layers=1, decoder_num_attention_heads=16,
        decoder_intermediate_size=64, layer_norm_eps=1e-5,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).eval()
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn_like(parameter)
    return model


def test_mae_starts_every_stream(vit_mae, tmp_path):
    vit_mae.save_pretrained(tmp_path / "mae")
    report = convert(ConvertSettings(str(tmp_path / "mae"), str(tmp_path / "ours"), architecture="cav_mae"))
    model = CAVMAEForPreTraining.from_pretrained(tmp_path / "ours").eval()
    assert all(".positions." in name for name in report.missing)
    assert [name.split(".")[-1] for name in report.unused] == ["cls_token"]
    assert (model.config.num_hidden_layers, model.config.num_joint_layers) == (3, 1)
    encoder: CAVMAEModel = model.cav_mae
    for branch in encoder.branches.values():
        branch.positions.modality_token.data.zero_()
    expected = vit_mae.vit.embeddings.patch_embeddings(torch.zeros(1, 3, SIDE, SIDE)) + sincos_positions(
        1, (2, 2), HIDDEN
    )
    for layer in vit_mae.vit.layers:
        expected = layer(expected)
    ours = encoder(pixel_values=torch.zeros(1, 1, 3, SIDE, SIDE)).last_hidden_state
    torch.testing.assert_close(ours, vit_mae.vit.layernorm(expected), atol=1e-5, rtol=1e-5)


def test_mae_hears_a_spectrogram_as_it_sees_a_grey_picture(vit_mae, tmp_path):
    vit_mae.save_pretrained(tmp_path / "mae")
    convert(ConvertSettings(str(tmp_path / "mae"), str(tmp_path / "ours"), architecture="cav_mae"))
    model = CAVMAEForPreTraining.from_pretrained(tmp_path / "ours").eval()
    for branch in model.cav_mae.branches.values():
        branch.positions.modality_token.data.zero_()
    sound = torch.randn(1, 64, 128)
    grey = sound.transpose(1, 2)[:, None, None].expand(-1, -1, 3, -1, -1)
    heard = model.cav_mae(audio_values=sound).last_hidden_state
    torch.testing.assert_close(heard, model.cav_mae(pixel_values=grey).last_hidden_state, atol=1e-5, rtol=1e-5)
    heads = model.decoder.heads
    assert torch.equal(heads["audio"].weight, heads["video"].weight[:256])
