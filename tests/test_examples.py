"""Every example, through its own command line, on a handful of clips."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import write_noise_clip

from cmmixer_hf import CMMixerForAudioClassification, CMMixerForPreTraining, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.evaluation.results import EvaluationResult
from cmmixer_hf.media.reading import Sampling
from cmmixer_hf.training.model_card import write_model_card

EXAMPLES = Path(__file__).parents[1] / "examples"
CONFIGS = sorted((EXAMPLES / "configs").glob("*.yaml"))
SMALL = {
    "image_size": 32, "num_frames": 2, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
}  # fmt: skip
QUICK = ["--epochs", "1", "--warmup_epochs", "0", "--batch_size", "2", "--logging_steps", "1"]


def run(name: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> str:
    """Eight clips with two labels, two folds and two splits."""
    folder = tmp_path_factory.mktemp("examples")
    specs = []
    for number in range(8):
        path = str(write_noise_clip(folder / f"clip{number}.mp4", number))
        facts = {"labels": ("a" if number % 2 else "b",), "fold": 1 + number // 4}
        split = "test" if number >= 4 else "train"
        specs.append(
            ClipSpec(clip_id=f"clip{number}", track_id=f"clip{number}", video=path, audio=path, split=split, **facts)
        )
    prepare(specs, folder / "prepared", Recipe(Sampling(num_frames=2, shorter_side=32)), progress=False)
    return str(folder / "prepared")


@pytest.fixture(scope="module")
def pretrained(clips, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("pretrained") / "run")
    arguments = ["--clips", clips, "--split", "train", "--output_dir", folder, *QUICK]
    printed = run("pretrain.py", *arguments, "--mixer", "pixel", "--model_config", json.dumps(SMALL))
    assert folder in printed
    return folder


def test_pretraining_leaves_the_model_it_was_asked_for(pretrained):
    config = CMMixerForPreTraining.from_pretrained(pretrained).config
    assert (config.mixer, config.decoder_type, config.hidden_size) == ("pixel", "solo", 32)


@pytest.mark.parametrize("start", ["pretrained", "random"])
def test_retrieval_is_fine_tuned_and_scored(start, clips, pretrained, tmp_path):
    source = ["--model", pretrained] if start == "pretrained" else ["--model_config", json.dumps(SMALL)]
    run("finetune_retrieval.py", "--clips", clips, "--output_dir", str(tmp_path / "run"), *QUICK, *source)
    assert CMMixerForRetrieval.from_pretrained(tmp_path / "run").config.num_frames == 2
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert {score["metric"] for score in result["scores"]} >= {"R@1", "R@10", "median_rank"}
    assert (result["data"]["split"], result["data"]["clips"]) == ("test", 4)


def test_a_model_for_retrieval_is_trained_on(clips, pretrained, tmp_path):
    CMMixerForRetrieval.from_encoder_pretrained(pretrained, temperature=0.07).save_pretrained(tmp_path / "first")
    CMMixerProcessor.from_pretrained(pretrained).save_pretrained(tmp_path / "first")
    source = ["--model", str(tmp_path / "first"), "--model_config", '{"token_drop_rate": 0.5}']
    frozen = ["--learning_rate", "1e-12", "--min_learning_rate", "1e-12"]
    run("finetune_retrieval.py", "--clips", clips, "--output_dir", str(tmp_path / "run"), *QUICK, *source, *frozen)
    before, after = (CMMixerForRetrieval.from_pretrained(tmp_path / name) for name in ("first", "run"))
    assert (after.config.temperature, after.config.token_drop_rate) == (0.07, 0.5)
    assert all(
        torch.allclose(old, new, atol=1e-9) for old, new in zip(before.parameters(), after.parameters(), strict=True)
    )


def test_the_best_weights_on_a_validation_split_are_kept(clips, pretrained, tmp_path):
    best = ["--validation_split", "test", "--evaluation_epochs", "1", "--best_metric", "audio_to_video/R@1"]
    run("finetune_retrieval.py", "--clips", clips, "--output_dir", str(tmp_path), *QUICK, "--model", pretrained, *best)
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"video_to_audio/median_rank", "audio_to_video/R@10"} <= entries[-1].keys()
    assert (tmp_path / "best" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["finetune_classification.py", "trainer.py"])
def test_random_weights_are_never_trained_unasked(name, clips, pretrained, tmp_path):
    """A classifier from two towers, and two towers from a pre-trained model, have nothing to start from."""
    CMMixerForRetrieval.from_encoder_pretrained(pretrained).save_pretrained(tmp_path / "towers")
    arguments = [pretrained, clips, "--output_dir", str(tmp_path / "run")]
    if name == "finetune_classification.py":
        arguments = ["--clips", clips, "--model", str(tmp_path / "towers"), "--output_dir", str(tmp_path / "run")]
    command = [sys.executable, str(EXAMPLES / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "MissingWeightsError" in done.stderr
    assert "load it with CMMixerFor" in done.stderr


def test_transformers_trainer_trains_a_retriever(clips, pretrained, tmp_path):
    CMMixerForRetrieval.from_encoder_pretrained(pretrained).save_pretrained(tmp_path / "first")
    CMMixerProcessor.from_pretrained(pretrained).save_pretrained(tmp_path / "first")
    flags = ["--max_steps", "3", "--per_device_train_batch_size", "2", "--use_cpu", "True", "--warmup_steps", "0"]
    run("trainer.py", str(tmp_path / "first"), clips, "--output_dir", str(tmp_path / "run"), *flags)
    before, after = (CMMixerForRetrieval.from_pretrained(tmp_path / name) for name in ("first", "run"))
    assert not torch.equal(before.video_model.cls_token, after.video_model.cls_token)
    assert CMMixerProcessor.from_pretrained(tmp_path / "run").feature_extractor.num_frames == 2


def test_the_checkpoint_is_made_again(tmp_path):
    flags = ["--clips", "32", "--held_out", "8", "--pretraining_steps", "2", "--finetuning_steps", "2"]
    folders = {"work": tmp_path / "work", "output": tmp_path / "model"}
    run("checkpoint.py", *flags, *(f"--{name}={folder}" for name, folder in folders.items()))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["dtype"] == "float16"
    assert config["auto_map"]["AutoModel"] == "modeling_cmmixer.CMMixerForRetrieval"
    CMMixerForRetrieval.from_pretrained(tmp_path / "model")
    text = (tmp_path / "model" / "README.md").read_text()
    assert "8 clips made from another seed" in text
    assert "identity twins" in text
    assert "no model, all cues, CCA of 32 pairs" in text
    assert not list((tmp_path / "model").rglob("training.pt"))
    shares = json.loads((tmp_path / "model" / "separation.json").read_text())
    for name in ("pretraining", "pretraining-all"):
        CMMixerForPreTraining.from_pretrained(tmp_path / "model" / name)
        card = (tmp_path / "model" / name / "README.md").read_text()
        (picture,) = re.findall(r"\]\((pictures/.*png)\)", card)
        assert (tmp_path / "model" / name / picture).stat().st_size > 1000
        assert f"video hidden {shares[name]['video_hidden']:.0f} %" in card


@pytest.mark.parametrize("average_views", [False, True])
def test_a_classifier_is_fine_tuned_and_scored_beside_its_card(average_views, clips, pretrained, tmp_path):
    arguments = ["--clips", clips, "--model", pretrained, "--average_views", str(average_views)]
    run("finetune_classification.py", *arguments, "--output_dir", str(tmp_path / "run"), *QUICK)
    result = EvaluationResult.load(tmp_path / "run" / "evaluation.json")
    assert [score.metric for score in result.scores] == ["top1_accuracy", "top5_accuracy"]
    assert all(score.interval and score.chance for score in result.scores)
    assert (result.data["split"], result.data["clips"]) == ("test", 4)
    assert result.protocol["average_views"] is average_views
    assert "top1 accuracy" in write_model_card(tmp_path / "run").read_text()


def test_every_fold_is_scored_beside_its_model_and_the_mean_above(clips, pretrained, tmp_path):
    arguments = ["--clips", clips, "--model", pretrained, "--modality", "audio", "--folds", "true"]
    printed = run("finetune_classification.py", *arguments, "--output_dir", str(tmp_path / "run"), *QUICK)
    mean = EvaluationResult.load(tmp_path / "run" / "evaluation.json")
    for number, value in enumerate(mean.scores[0].folds, 1):
        fold = EvaluationResult.load(tmp_path / "run" / f"fold-{number}" / "evaluation.json")
        assert (fold.data["fold"], fold.data["clips"], fold.scores[0].value) == (number, 4, value)
        assert f"{number}: top1_accuracy {value:.1f} %" in printed
    assert (mean.protocol["folds"], mean.data["clips"]) == (2, 8)
    labels = CMMixerForAudioClassification.from_pretrained(tmp_path / "run" / "fold-1").config.id2label
    assert labels == {0: "a", 1: "b"}


@pytest.mark.parametrize(
    ("example", "flag"),
    [
        ("pretrain.py", "--split"),
        ("finetune_retrieval.py", "--train_split"),
        ("finetune_retrieval.py", "--test_split"),
        ("finetune_classification.py", "--train_split"),
        ("finetune_classification.py", "--test_split"),
    ],
)
def test_a_split_that_is_not_there_is_told_before_training(example, flag, clips, tmp_path, monkeypatch):
    arguments = ["--clips", clips, "--output_dir", str(tmp_path / "run"), "--model_config", json.dumps(SMALL)]
    monkeypatch.setattr(sys, "argv", [example, *arguments, flag, "elsewhere"])
    with pytest.raises(SourceError, match="none of 8 clips has split 'elsewhere': they have 'test', 'train'"):
        runpy.run_path(str(EXAMPLES / example), run_name="__main__")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_config_names_settings_of_its_example_and_only_what_differs(config, monkeypatch):
    from cmmixer_hf.training.settings import read_settings

    name = {"pretrain": "pretrain", "retrieval": "finetune_retrieval", "classification": "finetune_classification"}
    example = runpy.run_path(str(EXAMPLES / f"{name[config.stem.split('_')[0]]}.py"))
    (settings_class,) = [
        value for key, value in example.items() if key.endswith("Settings") and value.__module__ == example["__name__"]
    ]
    settings, defaults = read_settings(settings_class, arguments=["--config", str(config)]), settings_class()
    same = [key for key in yaml.safe_load(config.read_text()) if getattr(settings, key) == getattr(defaults, key)]
    assert not same
    json.loads(settings.model_config)


@pytest.fixture(scope="module")
def retriever(pretrained, tmp_path_factory) -> str:
    """Untrained towers with the extractor of the pre-trained model."""
    folder = str(tmp_path_factory.mktemp("retriever"))
    CMMixerForRetrieval.from_encoder_pretrained(pretrained).save_pretrained(folder)
    CMMixerProcessor.from_pretrained(pretrained).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("figure", ["mixtures", "reconstructions", "tsne", "queries"])
def test_every_figure_is_drawn(figure, clips, pretrained, retriever, tmp_path):
    picture = tmp_path / "figure.png"
    arguments = ["--pretrained", pretrained, "--retrieval", retriever, "--count", "24", "--segments", "2"]
    source = ["--clips", clips] if figure == "reconstructions" else []
    printed = run("visualize.py", "--figure", figure, "--output", str(picture), *arguments, *source)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in printed
    if figure == "tsne":
        assert printed.count("chance") == 4


def test_pictures_in_the_repository_are_small():
    pictures = list((EXAMPLES / "images").glob("*.png"))
    assert "mixtures" in {picture.stem for picture in pictures}
    assert all(picture.stat().st_size < 250_000 for picture in pictures)


def test_examples_are_short_and_told_in_the_readme():
    readme = (EXAMPLES / "README.md").read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f"`{example.name}`" in readme
        longest = {"checkpoint.py": 210, "visualize.py": 145}.get(
            example.name, 110
        )  # all that is released; four figures
        assert len(example.read_text().splitlines()) <= longest
