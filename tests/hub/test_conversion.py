"""Weights from elsewhere: equal outputs, and an account of every key."""

import argparse
import os
import shutil

import pytest
import torch
from distributed import kills_at_every_touch
from safetensors.torch import save_file
from transformers import AutoFeatureExtractor, AutoModelForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining
from cmmixer_hf.cli import main
from cmmixer_hf.hub.conversion import (
    ConvertSettings,
    WeightsFileError,
    convert,
    fill_weights,
    infer_config,
    read_weights,
)
from cmmixer_hf.models.patching import sincos_positions

SIDE, PATCH, HIDDEN = 64, 16, 128


@pytest.fixture
def vit_mae() -> ViTMAEForPreTraining:
    """Random weights everywhere, MAE's positions."""
    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=SIDE, patch_size=PATCH, hidden_size=HIDDEN, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=96, decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=16,
        decoder_intermediate_size=64, mask_ratio=0.75, layer_norm_eps=1e-6,
    )  # fmt: skip
    model = ViTMAEForPreTraining(config).eval()
    for parameter in model.parameters():
        parameter.data = 0.1 * torch.randn_like(parameter)
    for table in (model.vit.embeddings.position_embeddings, model.decoder.decoder_pos_embed):
        table.data = torch.cat([torch.zeros(1, table.shape[-1]), sincos_positions(1, (4, 4), table.shape[-1])])[None]
    return model


def as_original(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of MAE's own release for transformers' weights, q, k and v in one."""
    renamed = {}
    for name, tensor in state.items():
        for old, new in (
            ("vit.embeddings.patch_embeddings.projection", "patch_embed.proj"),
            ("vit.embeddings.position_embeddings", "pos_embed"),
            ("vit.embeddings.", ""), ("vit.layers", "blocks"), ("vit.layernorm", "norm"), ("decoder.", ""),
            ("decoder_layers", "decoder_blocks"), ("attention.o_proj", "attn.proj"),
            ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
        ):  # fmt: skip
            name = name.replace(old, new)
        renamed[name] = tensor
    for name in [name for name in renamed if "q_proj" in name]:
        parts = [renamed.pop(name.replace("q_proj", part)) for part in ("q_proj", "k_proj", "v_proj")]
        renamed[name.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return renamed


def as_released(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The authors' CMMixer: MAE's names, two heads, saved from a parallel model."""
    renamed = {}
    for name, tensor in as_original(state).items():
        for head in ("decoder_pred_img", "decoder_pred_mel") if "decoder_pred" in name else ("decoder_pred",):
            renamed["module." + name.replace("decoder_pred", head)] = tensor
    return renamed


LAYOUTS = {"transformers": dict, "original": as_original, "released": as_released}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_encoder_is_vit_maes(vit_mae, layout):
    state = LAYOUTS[layout](vit_mae.state_dict())
    model = CMMixerForPreTraining(infer_config(state, image_size=SIDE)).eval()
    report = fill_weights(model, state)
    assert sorted([*report.used, *report.replaced]) == sorted(state)
    assert not report.missing
    assert not report.unused
    assert not report.unfitting
    assert set(report.replaced.values()) == {0.0}
    picture = torch.randn(2, 3, SIDE, SIDE)
    vit_mae.vit.config.mask_ratio = 0.0
    order = torch.arange(16.0).expand(2, -1)
    theirs = vit_mae.vit(picture, noise=order, output_hidden_states=True)
    ours = model.cmmixer(picture[:, None], output_hidden_states=True)
    for left, right in zip((*ours.hidden_states, ours[0]), (*theirs.hidden_states, theirs[0]), strict=True):
        torch.testing.assert_close(left, right, atol=1e-5, rtol=1e-5)


def test_a_decoder_of_the_same_width_predicts_what_vit_mae_predicts(vit_mae):
    state = vit_mae.state_dict()
    model = CMMixerForPreTraining(infer_config(state, image_size=SIDE, mask_ratio=0.75)).eval()
    fill_weights(model, state)
    picture, noise = torch.randn(2, 3, SIDE, SIDE), torch.rand(2, 16)
    stack = picture[:, None]
    ours = model(pixel_values=stack, audio_values=stack, mixing_mask=torch.ones(2, 1, 1, SIDE, SIDE), noise=noise)
    theirs = vit_mae(picture, noise=noise)
    for head in (ours.video_logits, ours.audio_logits):
        torch.testing.assert_close(head, theirs.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.video_loss, theirs.loss)


def test_any_number_of_frames_and_any_size_follows_without_surgery(vit_mae):
    model = CMMixerForPreTraining(infer_config(vit_mae.state_dict()))
    fill_weights(model, vit_mae.state_dict())
    assert model.cmmixer(torch.randn(1, 3, 3, 32, 80)).last_hidden_state.shape == (1, 1 + 3 * 10, HIDDEN)


def test_a_decoder_of_another_width_is_left_out_and_told(vit_mae):
    state = vit_mae.state_dict() | {"extra.weight": torch.zeros(1)}
    model = CMMixerForPreTraining(infer_config(state, decoder_hidden_size=64))
    report = fill_weights(model, state)
    assert "(32, 128) instead of (64, 128) of decoders.0.embed.weight" in str(report)
    assert report.unused == ["extra.weight"]
    assert {"decoders.0.embed.weight", "decoders.0.mask_token"} <= set(report.missing)
    accounted = [*report.used, *report.replaced, *report.unused, *report.unfitting]
    assert sorted(accounted) == sorted(state)


def test_duet_gets_a_decoder_for_each_modality(vit_mae):
    state = as_released(vit_mae.state_dict())
    model = CMMixerForPreTraining(infer_config(state, decoder_type="duet"))
    report = fill_weights(model, state)
    assert not report.missing
    assert report.used["module.mask_token"] == ["decoders.0.mask_token", "decoders.1.mask_token"]
    assert report.used["module.decoder_pred_mel.bias"] == ["decoders.1.heads.audio.bias"]


def test_sizes_come_from_the_shapes(vit_mae):
    config = infer_config(as_released(vit_mae.state_dict()))
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (HIDDEN, 2, 2)
    assert (config.decoder_hidden_size, config.decoder_num_attention_heads) == (32, 16)


def test_old_names_of_transformers_are_known(vit_mae):
    old = {}
    for name, tensor in vit_mae.state_dict().items():
        for new, before in (
            ("vit.layers.", "vit.encoder.layer."), ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"), ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):  # fmt: skip
            name = name.replace(new, before)
        old[name] = tensor
    models = [CMMixerForPreTraining(infer_config(old)) for _ in range(2)]
    reports = [fill_weights(model, state) for model, state in zip(models, (old, vit_mae.state_dict()), strict=True)]
    assert not reports[0].missing
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=0, atol=0)


def test_weights_without_an_encoder_are_refused():
    with pytest.raises(ValueError, match=r"unknown layout.*conv1\.weight"):
        infer_config({"conv1.weight": torch.zeros(1)})
    small = CMMixerConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64)
    with pytest.raises(ValueError, match=r"incomplete.*cls_token"):
        fill_weights(CMMixerForPreTraining(small), {"norm.weight": torch.zeros(32)})


def test_weights_of_no_known_layout_are_one_line_and_leave_nothing(tmp_path, capsys):
    save_file({"conv1.weight": torch.zeros(1)}, tmp_path / "strange.safetensors")
    assert main(["convert", str(tmp_path / "strange.safetensors"), str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "strange.safetensors: unknown layout: expected MAE's" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep_decoder", [True, False])
def test_conversion_leaves_a_model_and_an_account_of_every_key(vit_mae, tmp_path, keep_decoder):
    vit_mae.save_pretrained(tmp_path / "theirs")
    settings = ConvertSettings(str(tmp_path / "theirs"), str(tmp_path / "ours"), keep_decoder=keep_decoder)
    report = convert(settings)
    model = AutoModelForPreTraining.from_pretrained(tmp_path / "ours")
    assert AutoFeatureExtractor.from_pretrained(tmp_path / "ours").num_frames == 8
    assert (tmp_path / "ours" / "conversion.txt").read_text().strip() == str(report)
    assert torch.equal(model.cmmixer.cls_token, vit_mae.vit.embeddings.cls_token)
    assert model.config.decoder_hidden_size == (32 if keep_decoder else 256)
    assert bool(report.unfitting) != keep_decoder


@pytest.mark.parametrize("made_of", ["a user's file", "an earlier conversion"])
def test_nothing_in_a_folder_is_deleted_or_overwritten(vit_mae, tmp_path, made_of):
    vit_mae.save_pretrained(tmp_path / "theirs")
    settings = ConvertSettings(str(tmp_path / "theirs"), str(tmp_path / "ours"))
    if made_of == "a user's file":
        (tmp_path / "ours").mkdir()
        (tmp_path / "ours" / "thesis.txt").write_text("years of work")
    else:
        convert(settings)
    before = {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()}
    with pytest.raises(FileExistsError, match="nothing in it is overwritten: name a new or empty folder"):
        convert(settings)
    assert {path.name: path.read_bytes() for path in (tmp_path / "ours").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]
    (tmp_path / "empty").mkdir()
    convert(ConvertSettings(str(tmp_path / "theirs"), str(tmp_path / "empty")))
    assert (tmp_path / "empty" / "config.json").exists()


def test_what_training_programs_save_is_read(vit_mae, tmp_path):
    state = as_original(vit_mae.state_dict())
    arguments = argparse.Namespace(batch_size=64, model="mae_vit_base_patch16", lr=1e-3)
    torch.save({"model": state, "optimizer": {}, "epoch": 3, "args": arguments}, tmp_path / "mae.pth")
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "lightning.pt")
    for name in ("mae.pth", "lightning.pt"):
        read = read_weights(str(tmp_path / name))
        torch.testing.assert_close(read, state, rtol=0, atol=0)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def refusal(source) -> str:
    with pytest.raises(WeightsFileError) as caught:
        read_weights(str(source))
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


def test_a_pickle_of_more_than_tensors_is_refused_in_a_sentence(vit_mae, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": vit_mae.state_dict(), "hook": Payload()}, tmp_path / "evil.pth")
    assert "evil.pth holds more than weights (posix.mkdir), and reading that could run code" in refusal("evil.pth")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
@pytest.mark.parametrize("left", [0, 100, 0.5])
def test_a_file_that_is_cut_off_is_named(vit_mae, tmp_path, kind, left):
    vit_mae.save_pretrained(tmp_path / "whole")
    path = tmp_path / f"weights.{kind}"
    if kind == "pth":
        torch.save(vit_mae.state_dict(), path)
    else:
        save_file({name: tensor.contiguous() for name, tensor in vit_mae.state_dict().items()}, path)
    content = path.read_bytes()
    path.write_bytes(content[: left if isinstance(left, int) else int(left * len(content))])
    assert f"weights.{kind} (" in refusal(path)


def test_a_file_without_named_tensors_is_refused(tmp_path):
    torch.save([torch.zeros(3)], tmp_path / "list.pt")
    assert "list.pt holds no tensors by name" in refusal(tmp_path / "list.pt")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "folder"])
def test_weights_are_read_from_files_and_folders(vit_mae, tmp_path, kind):
    state = {name: tensor.contiguous() for name, tensor in vit_mae.state_dict().items()}
    source = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file(state, source)
    elif kind == "pth":
        torch.save({"model": state, "epoch": 3}, source)
    else:
        vit_mae.save_pretrained(source)
    read = read_weights(str(source))
    if kind == "folder":  # transformers itself writes the names of its version 4
        assert not fill_weights(CMMixerForPreTraining(infer_config(read)), read).missing
    else:
        assert read.keys() == state.keys()
    with pytest.raises(FileNotFoundError, match="holds no weights"):
        read_weights(str(tmp_path.joinpath("empty").mkdir() or tmp_path / "empty"))


@pytest.mark.slow
def test_converting_that_is_killed_anywhere_loses_nothing(vit_mae, tmp_path):
    """Again and again into the same place, beside files of the user's own: a whole model, or none."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "notes.txt").write_text("mine")
    vit_mae.save_pretrained(tmp_path / "mae")
    target = tmp_path / "models" / "ours"
    settings = ConvertSettings(str(tmp_path / "mae"), output_dir=str(target))
    convert(ConvertSettings(str(tmp_path / "mae"), output_dir=str(tmp_path / "whole")))
    expected = CMMixerForPreTraining.from_pretrained(tmp_path / "whole").cmmixer.state_dict()
    names, kills = {path.name for path in (tmp_path / "whole").iterdir()}, 0
    for _ in range(2):
        for _ in kills_at_every_touch(tmp_path, convert, settings):
            kills += 1
            assert (tmp_path / "models" / "notes.txt").read_text() == "mine"
            if target.exists():
                assert {path.name for path in target.iterdir()} == names
                torch.testing.assert_close(CMMixerForPreTraining.from_pretrained(target).cmmixer.state_dict(), expected)
                shutil.rmtree(target)
        assert {path.name for path in target.iterdir()} == names
        shutil.rmtree(target)
    assert kills >= 20
