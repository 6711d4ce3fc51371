"""Which saved models are opened, for what, and how the others are refused: by the loader and by each command."""

import json

import pytest
import torch
from baseline_models import BASELINES
from baseline_models import build as build_baseline

from cmmixer_hf import (
    CAVMAEConfig,
    CAVMAEFeatureExtractor,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CMMixerFeatureExtractor,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerModel,
    CMMixerProcessor,
)
from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.loading import (
    CLASSES,
    CLASSIFICATION,
    PRETRAINING,
    RETRIEVAL,
    find_class,
    load_model,
    load_processor,
    read_saved,
)

CAV_MAE = {
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32},
    **{"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2},
    "decoder_intermediate_size": 32,
}


@pytest.fixture
def pretrained(tiny_config, extractor, tmp_path):
    """A pre-trained model and its processor, as `DEMO/pretrained` holds them."""
    CMMixerForPreTraining(tiny_config).save_pretrained(tmp_path / "pretrained")
    CMMixerProcessor(extractor).save_pretrained(tmp_path / "pretrained")
    return tmp_path / "pretrained"


@pytest.fixture
def cav_mae(tmp_path):
    """A CAV-MAE retriever of two frames."""
    torch.manual_seed(0)
    CAVMAEForRetrieval(CAVMAEConfig(**CAV_MAE)).save_pretrained(tmp_path / "cav-mae")
    CMMixerProcessor(CAVMAEFeatureExtractor(image_size=32, num_frames=2)).save_pretrained(tmp_path / "cav-mae")
    return tmp_path / "cav-mae"


def test_every_class_is_where_it_is_said_to_be():
    for name in CLASSES:
        assert find_class(name).__name__ == name


def test_a_retriever_has_every_weight_it_was_saved_with(retriever_folder):
    model = load_model(retriever_folder)
    assert type(model) is CMMixerForRetrieval
    assert not model.training
    expected = CMMixerForRetrieval.from_pretrained(retriever_folder).state_dict()
    torch.testing.assert_close(model.state_dict(), expected, rtol=0, atol=0)
    assert load_processor(read_saved(retriever_folder)).feature_extractor.num_frames == 2


@pytest.mark.parametrize("name", BASELINES)
def test_baselines_are_retrievers(name, tmp_path):
    model = build_baseline(name)
    model.save_pretrained(tmp_path)
    torch.testing.assert_close(load_model(tmp_path).state_dict(), model.state_dict(), rtol=0, atol=0)


def test_cav_mae_is_a_retriever_once_it_was_contrasted(tmp_path):
    model = CAVMAEForPreTraining(CAVMAEConfig(**CAV_MAE))
    model.save_pretrained(tmp_path / "cav-mae")
    assert type(load_model(tmp_path / "cav-mae")) is CAVMAEForRetrieval
    assert type(load_model(tmp_path / "cav-mae", (PRETRAINING,))) is CAVMAEForPreTraining
    CAVMAEForPreTraining(CAVMAEConfig(**CAV_MAE, contrastive_weight=0)).save_pretrained(tmp_path / "av-mae")
    with pytest.raises(SourceError, match="is a CAVMAEForPreTraining, for pre-training, not for retrieval: fine-tune"):
        load_model(tmp_path / "av-mae")


def test_what_is_for_something_else_is_refused_with_what_would_do(pretrained, tiny_config, retriever_folder, tmp_path):
    with pytest.raises(
        SourceError, match=r"is a CMMixerForPreTraining, for pre-training, not for retrieval: fine-tune"
    ):
        load_model(pretrained)
    with pytest.raises(SourceError, match=r"is a CMMixerForRetrieval, for retrieval, not for pre-training: give a pre"):
        load_model(retriever_folder, (PRETRAINING,))
    CMMixerModel(tiny_config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(SourceError, match="is a CMMixerModel, not for retrieval or classification"):
        load_model(tmp_path / "encoder", (RETRIEVAL, CLASSIFICATION))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["BertModel"], "model_type": "bert"}))
    with pytest.raises(SourceError, match="is a BertModel, which is not supported here: give one of CMMixerForRet"):
        load_model(tmp_path)


def test_what_is_no_model_is_refused_with_where_models_lie(pretrained):
    with pytest.raises(SourceError, match=rf"holds no config.json.*models lie in {pretrained}$"):
        read_saved(pretrained.parent)
    with pytest.raises(SourceError, match=r"\./no/such/model is neither a model's folder nor a Hub name"):
        read_saved("./no/such/model")


def test_half_a_model_is_refused(retriever_folder, tmp_path):
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    weights = {name: value for name, value in model.state_dict().items() if "audio" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(SourceError, match=r"lacks \d+ of the weights of a CMMixerForRetrieval, such as \S*audio"):
        load_model(tmp_path)


def test_weights_that_cannot_be_read_are_one_sentence(retriever_folder, tmp_path):
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    model.config.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"architectures": ["CMMixerForRetrieval"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(SourceError, match=r"pytorch_model.bin is a pickle, which could run code; save the model with"):
        load_model(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(SourceError, match=r"^the weights of \S* cannot be loaded: [^\n]*$"):
        load_model(tmp_path)


def test_a_model_without_its_processor_says_how_to_save_one(tmp_path, tiny_config):
    CMMixerForRetrieval(tiny_config).save_pretrained(tmp_path)
    with pytest.raises(SourceError, match="was saved without its processor: save one there"):
        load_processor(read_saved(tmp_path))


@pytest.mark.parametrize("verb", ["index", "evaluate"])
def test_a_pretrained_model_is_refused_by_every_command(
    verb, pretrained, clip_files, prepared_folder, tmp_path, capsys
):
    what = {
        "index": ["index", str(clip_files[0].parent), str(tmp_path / "index"), "--model", str(pretrained)],
        "evaluate": ["evaluate", str(prepared_folder), "--model", str(pretrained)],
    }
    assert main(what[verb]) == 1
    assert "is a CMMixerForPreTraining, for pre-training, not for retrieval" in capsys.readouterr().err
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("model", ["cav-mae", *BASELINES])
def test_every_retriever_is_indexed_searched_and_evaluated(model, cav_mae, clip_files, tmp_path, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    folder = cav_mae
    frames = 2
    if model != "cav-mae":
        folder, frames = tmp_path / "baseline", 3
        build_baseline(model).save_pretrained(folder)
        CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=frames)).save_pretrained(folder)
    index = tmp_path / "index"
    assert main(["index", str(clip_files[0].parent), str(index), "--model", str(folder), "--modality", "video"]) == 0
    assert main(["search", str(clip_files[2]), str(index), "--json"]) == 0
    best = json.loads(capsys.readouterr().out.splitlines()[-1])["matches"][0]
    assert (best["title"], best["score"]) == ("clip2", pytest.approx(1, abs=1e-4))
    prepare = ["prepare", str(clip_files[0].parent), str(tmp_path / "shards"), "--num_frames", str(frames)]
    assert main([*prepare, "--shorter_side", "32", *(["--window_seconds", "1"] if model == "cav-mae" else [])]) == 0
    scores = tmp_path / "scores.json"
    arguments = ["evaluate", str(tmp_path / "shards"), "--model", str(folder), "--resamples", "5"]
    assert main([*arguments, "--output", str(scores)]) == 0
    assert json.loads(scores.read_text())["task"] == "retrieval"
