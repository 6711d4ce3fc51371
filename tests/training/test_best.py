"""The best weights on clips that are not trained on, early stopping, evaluation by steps."""

import json

import numpy as np
import pytest
import torch
from distributed import run_alone
from safetensors.torch import load_file
from training_runs import EXTRACTOR, make_model, make_settings, train_until_killed

from cmmixer_hf import CMMixerForPreTraining
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.training.best import BestWeights
from cmmixer_hf.training.loop import train

SCORES = [5.0, 9.0, 7.0, 9.0, 8.0, 6.0, 5.0, 4.0]  # after each of eight steps
RUN = {"evaluation_steps": 1, "save_steps": 3, "best_metric": "score"}


def run(clips, folder, scores=SCORES, **changes):
    """A training of eight steps with these scores; the history and the weights after each evaluation."""
    model, weights = make_model(), {}

    def evaluate(scored):
        step = evaluate.step = evaluate.step + 1
        weights[step] = {name: value.clone() for name, value in scored.state_dict().items()}
        return {"score": np.float64(scores[step - 1]), "other": torch.tensor(1.0)}

    evaluate.step = changes.pop("begin", 0)
    settings = make_settings(folder, **(RUN | changes))
    return train(model, load_prepared(clips), EXTRACTOR, settings, evaluate=evaluate, progress=False), weights, model


def test_the_run_ends_with_the_best_weights(prepared_folder, tmp_path):
    history, weights, model = run(prepared_folder, tmp_path)
    assert [entry["score"] for entry in history if "score" in entry] == SCORES
    assert all(type(value) in (int, float) for entry in history for value in entry.values())
    saved = CMMixerForPreTraining.from_pretrained(tmp_path)
    torch.testing.assert_close(saved.state_dict(), weights[2], rtol=0, atol=0)  # of the equal fourth, the first
    torch.testing.assert_close(model.state_dict(), weights[2], rtol=0, atol=0)
    last = load_file(tmp_path / "checkpoints" / "step-00000008" / "model.safetensors")
    torch.testing.assert_close(last, weights[8], rtol=0, atol=0)  # to go on from


def test_the_lowest_score_may_be_the_best(prepared_folder, tmp_path):
    _, weights, _ = run(prepared_folder, tmp_path, best_metric="-score")
    saved = CMMixerForPreTraining.from_pretrained(tmp_path)
    torch.testing.assert_close(saved.state_dict(), weights[8], rtol=0, atol=0)


def test_a_score_that_is_no_number_is_never_the_best(tmp_path):
    for metric in ("score", "-score"):
        best = BestWeights(tmp_path, make_settings(tmp_path, best_metric=metric))
        judged = [best.judge({"score": score}, step) for step, score in enumerate([np.nan, 5.0, np.nan, 5.0], 1)]
        assert judged == [False, True, False, False]
        assert (best.step, best.waited) == (2, 2)


def test_patience_ends_the_run_and_a_finished_one_stays_so(prepared_folder, tmp_path):
    history, weights, _ = run(prepared_folder, tmp_path, patience=3)
    assert history[-1]["step"] == 5
    again, more, _ = run(prepared_folder, tmp_path, patience=3)
    assert (again[-1]["step"], more) == (5, {})
    saved = CMMixerForPreTraining.from_pretrained(tmp_path)
    torch.testing.assert_close(saved.state_dict(), weights[2], rtol=0, atol=0)
    longer, _, _ = run(prepared_folder, tmp_path, patience=30, begin=5)
    assert [entry["step"] for entry in longer if "score" in entry] == list(range(1, 9))


def run_again(clips, folder, step):
    run(clips, folder, begin=step)


def test_the_best_is_remembered_over_a_kill(prepared_folder, tmp_path):
    _, weights, _ = run(prepared_folder, tmp_path / "whole")
    assert run_alone(killed, prepared_folder, tmp_path / "killed") == -9
    assert run_alone(run_again, prepared_folder, tmp_path / "killed", 3) == 0
    saved = CMMixerForPreTraining.from_pretrained(tmp_path / "killed")
    torch.testing.assert_close(saved.state_dict(), weights[2], rtol=0, atol=0)


def killed(clips, folder):
    train_until_killed.run = None
    from unittest import mock

    import training_runs

    with mock.patch.object(training_runs, "run_training", lambda clips, folder, **_: run(clips, folder)):
        train_until_killed(clips, folder, "cmmixer_hf.training.model_inputs:ModelInputs.__call__:6", {})


def test_evaluation_by_steps_takes_the_place_of_epochs(prepared_folder, tmp_path):
    history, _, _ = run(prepared_folder, tmp_path, evaluation_steps=3, best_metric="")
    assert [entry["step"] for entry in history if "score" in entry] == [3, 6]
    assert not (tmp_path / "best").exists()


def test_impossible_wishes_are_refused(prepared_folder, tmp_path):
    with pytest.raises(ValueError, match="best_metric is 'R@10', the evaluation has score, other"):
        run(prepared_folder, tmp_path / "a", best_metric="R@10")
    with pytest.raises(ValueError, match=r"best_metric \(score\) needs an evaluate"):
        settings = make_settings(tmp_path / "b", best_metric="score")
        train(make_model(), load_prepared(prepared_folder), EXTRACTOR, settings, progress=False)
    with pytest.raises(ValueError, match="patience waits for a better score: set best_metric"):
        make_settings(tmp_path, patience=3)
    assert json.loads((tmp_path / "a" / "environment.json").read_text())["processes"] == 1
