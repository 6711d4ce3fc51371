"""Which models are opened by their name, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from foreign_models import make_clap
from safetensors.torch import load_file, save_file

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining
from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.search.embedders.embedder import open_embedder


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(SourceError, match=r"\./no/such/model is neither"):
        open_embedder("./no/such/model")


def test_a_model_that_embeds_no_media_is_refused_with_what_would_do(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(SourceError, match="is a BertModel, which embeds neither sound nor pictures here: give a retr"):
        open_embedder(tmp_path)


def make_vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    ViTModel(ViTConfig(**size)).save_pretrained(folder)
    return folder


def make_pretraining(folder: Path) -> Path:
    size = {"image_size": 32, "num_frames": 2, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    CMMixerForPreTraining(CMMixerConfig(**size, intermediate_size=16)).save_pretrained(folder)
    return folder


def make_half(folder: Path) -> Path:
    weights = load_file(make_clap(folder) / "model.safetensors")
    save_file({name: weights[name] for name in sorted(weights)[9:]}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("make", "modality", "message"),
    [
        (make_vit, "audio", "is a ViTModel, which embeds neither sound nor pictures here: give a retriever"),
        (make_pretraining, "audio", "is a CMMixerForPreTraining, for pre-training, not for retrieval: fine-tune it"),
        (make_half, "audio", "lacks 9 of the weights of a ClapModel"),
        (make_clap, "video", "knows no video, only audio and text"),
        (lambda folder: folder, "audio", "holds no config.json, so it is not a saved model"),
        (lambda folder: folder / "gone", "audio", "is neither a model's folder nor a Hub name that can be reached"),
    ],
    ids=["a ViT", "pre-training", "half a CLAP", "pictures with CLAP", "an empty folder", "no folder"],
)
def test_a_library_is_not_indexed_with_what_does_not_embed_it(make, modality, message, clip_files, tmp_path, capsys):
    torch.manual_seed(0)
    (tmp_path / "model").mkdir()
    arguments = ["index", str(clip_files[0].parent), str(tmp_path / "index"), "--modality", modality]
    assert main([*arguments, "--model", str(make(tmp_path / "model"))]) == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("cmmixer: ")
    assert message in told
    assert not (tmp_path / "index" / "index.json").exists()
