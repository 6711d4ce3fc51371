"""`cmmixer evaluate`, in one process and in two."""

import json
import subprocess
import sys
from functools import partial
from unittest import mock

import pytest
from distributed import run_in_processes

from cmmixer_hf import CMMixerForAudioClassification, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.cli import main
from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.evaluation.command import EvaluateSettings, evaluate, evaluate_folds
from cmmixer_hf.evaluation.results import EvaluationResult
from cmmixer_hf.media.reading import Sampling
from cmmixer_hf.training.model_card import write_model_card


@pytest.fixture
def shards(clip_files, tmp_path):
    prepare(clip_files[:5], tmp_path / "shards", Sampling(num_frames=2, shorter_side=32), progress=False)
    return str(tmp_path / "shards")


@pytest.fixture
def labelled(clip_files, tmp_path):
    """Six clips with two labels, in two folds."""
    facts = [{"labels": ("ab"[number % 2],), "fold": 1 + number // 3} for number in range(6)]
    clips = [
        ClipSpec(clip_id=file.stem, track_id=file.stem, video=str(file), **fact)
        for file, fact in zip(clip_files, facts, strict=True)
    ]
    prepare(clips, tmp_path / "labelled", Sampling(num_frames=2, shorter_side=32), progress=False)
    return str(tmp_path / "labelled")


@pytest.fixture
def save(extractor, tiny_config, tmp_path):
    def save_model(model_class):
        model_class(tiny_config).save_pretrained(tmp_path / "model")
        CMMixerProcessor(extractor).save_pretrained(tmp_path / "model")
        return str(tmp_path / "model")

    return save_model


def test_a_retriever_is_scored_and_the_file_says_of_what(shards, save, tmp_path, capsys):
    model, output = save(CMMixerForRetrieval), tmp_path / "scores.json"
    arguments = ["evaluate", shards, "--model", model, "--output", str(output), "--pool_size", "2", "--resamples", "20"]
    assert main(arguments) == 0
    assert "video_to_audio strict median_rank" in capsys.readouterr().out
    result = EvaluationResult.load(output)
    assert result.task == "retrieval"
    assert result.model["architecture"] == "CMMixerForRetrieval"
    assert result.data["clips"] == 5
    assert result.protocol == {
        **{"seed": 0, "resamples": 20, "confidence": 0.95},
        **{"pool_size": 2, "pools": 2, "similarity": "segments"},
    }
    assert len(result.scores) == 8
    assert result.scores[0].chance == 50
    first = output.read_bytes()
    assert main(arguments) == 0
    assert output.read_bytes() == first


def test_two_processes_score_like_one(shards, save, tmp_path):
    arguments = ["evaluate", shards, "--model", save(CMMixerForRetrieval), "--batch_size", "2", "--resamples", "20"]
    alone, together = tmp_path / "alone.json", tmp_path / "together.json"
    assert main([*arguments, "--output", str(alone)]) == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, "-m", "cmmixer_hf.cli", *arguments, "--output", str(together)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("video_to_audio strict R@1 ") == 1
    assert json.loads(together.read_text()) == json.loads(alone.read_text())


def test_a_classifier_is_scored_on_a_fold_and_its_card_says_so(labelled, save, tiny_config, tmp_path):
    tiny_config.id2label = {0: "a", 1: "b"}
    model = save(CMMixerForAudioClassification)
    arguments = ["evaluate", labelled, "--model", model, "--output", f"{model}/evaluation.json", "--resamples", "20"]
    assert main([*arguments, "--fold", "2"]) == 0
    result = EvaluationResult.load(f"{model}/evaluation.json")
    assert (result.data["fold"], result.data["clips"]) == (2, 3)
    assert [(score.metric, score.chance) for score in result.scores] == [("top1_accuracy", 50), ("top5_accuracy", 100)]
    card = write_model_card(model).read_text()
    assert "top1 accuracy" in card
    assert "fold: 2" in card
    assert main(arguments) == 0
    assert EvaluationResult.load(f"{model}/evaluation.json").data["clips"] == 6


def score_folds(rank, *, shards, model, folder):
    """Mean over folds of a model that is not trained in between, and how many files this process wrote."""

    def evaluate_fold(fold, others):
        output = str(folder / f"{fold}.json")
        return evaluate(EvaluateSettings(shards, model, output=output, fold=fold, resamples=20))

    with mock.patch.object(EvaluationResult, "save", autospec=True, side_effect=EvaluationResult.save) as save:
        return evaluate_folds(load_prepared(shards), evaluate_fold, folder), save.call_count


def test_two_processes_score_folds_like_one_and_one_of_them_writes(labelled, save, tiny_config, tmp_path):
    tiny_config.id2label = {0: "a", 1: "b"}
    work = partial(score_folds, shards=labelled, model=save(CMMixerForAudioClassification), folder=tmp_path)
    alone, _ = work(0)
    (first, first_files), (second, second_files) = run_in_processes(work, tmp_path / "results")
    assert first == second == alone == EvaluationResult.load(tmp_path / "evaluation.json")
    assert (first_files, second_files) == (3, 0)
    top1, _ = alone.scores
    assert (alone.data["clips"], alone.protocol["folds"], top1.chance) == (6, 2, 50)
    folds = [EvaluationResult.load(tmp_path / f"{fold}.json").scores[0].value for fold in (1, 2)]
    assert top1.folds == tuple(folds)


def test_a_classifier_without_labels_is_told(shards, save, tmp_path, capsys):
    model = save(CMMixerForAudioClassification)
    assert main(["evaluate", shards, "--model", model, "--output", str(tmp_path / "scores.json")]) == 1
    assert "clip0 has no label" in capsys.readouterr().err
    assert not (tmp_path / "scores.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--split", "test"], "none of 5 clips has split 'test': none has any split"),
        (["--model", "./no/such/model"], "./no/such/model is neither a model's folder"),
    ],
)
def test_what_cannot_be_scored_is_one_line(shards, save, tmp_path, capsys, changes, message):
    output = str(tmp_path / "scores.json")
    assert main(["evaluate", shards, "--model", save(CMMixerForRetrieval), "--output", output, *changes]) == 1
    assert message in capsys.readouterr().err
