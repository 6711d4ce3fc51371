"""Predictions of prepared clips, views, scores and folds."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset

from cmmixer_hf import CMMixerForAudioClassification, CMMixerForVideoClassification
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.preparation import prepare_clip
from cmmixer_hf.evaluation.classification import (
    ClipPredictions,
    cross_validate,
    merge_views,
    predict_clips,
    score_classification,
)
from cmmixer_hf.evaluation.results import Score

CLASSES = {"bark": 0, "rain": 1, "siren": 2}
GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture
def rows(clip_files, sampling):
    names = ["bark", "rain", "siren", "bark", "rain", "siren"]
    return [prepare_clip(file, sampling) | {"labels": [name]} for file, name in zip(clip_files, names, strict=True)]


def classifier(config, model_class=CMMixerForAudioClassification, **changes):
    config.label2id, config.id2label = CLASSES, {number: name for name, number in CLASSES.items()}
    for name, value in changes.items():
        setattr(config, name, value)
    return model_class(config)


def predictions(samples: int, classes: int = 10, *, multi_label: bool = False) -> ClipPredictions:
    labels = torch.rand(samples, classes, generator=GENERATOR) < 0.2
    if not multi_label:
        labels = torch.nn.functional.one_hot(torch.randint(classes, (samples,), generator=GENERATOR), classes).bool()
    probabilities = torch.rand(samples, classes, generator=GENERATOR)
    names = tuple(str(sample) for sample in range(samples))
    return ClipPredictions(probabilities, labels, multi_label, names, (1,) * samples)


@pytest.mark.parametrize("model_class", [CMMixerForVideoClassification, CMMixerForAudioClassification])
def test_predictions_are_the_models_whatever_the_batches(rows, extractor, tiny_config, model_class):
    model = classifier(tiny_config, model_class)
    clips = Dataset.from_list(rows)
    whole, parts = (predict_clips(model, clips, extractor, batch_size=size, progress=False) for size in (6, 4))
    torch.testing.assert_close(whole.probabilities, parts.probabilities)
    torch.testing.assert_close(whole.probabilities.sum(1), torch.ones(6))
    assert whole.labels.long().argmax(1).tolist() == [0, 1, 2, 0, 1, 2]
    assert whole.names == tuple(clips["clip_id"])


def test_several_labels_have_each_their_own_probability(rows, extractor, tiny_config):
    model = classifier(tiny_config, problem_type="multi_label_classification")
    rows[0]["labels"], rows[1]["labels"] = ["bark", "siren"], []
    found = predict_clips(model, Dataset.from_list(rows), extractor, progress=False)
    assert found.labels[:2].tolist() == [[True, False, True], [False, False, False]]
    assert not torch.allclose(found.probabilities.sum(1), torch.ones(6))
    assert [score.metric for score in score_classification(found, resamples=10)] == ["mAP"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["cat"], "clip0 has the label 'cat'"), (["bark", "rain"], "clip0 has 2 labels"), (None, "clip0 has no label")],
)
def test_labels_that_do_not_fit_are_named(rows, extractor, tiny_config, labels, message):
    rows[0]["labels"] = labels
    with pytest.raises(SourceError, match=message):
        predict_clips(classifier(tiny_config), Dataset.from_list(rows), extractor, progress=False)


def test_views_of_a_file_are_averaged(rows, extractor, tiny_config):
    model = classifier(tiny_config)
    for row in rows[3:]:
        row["path"], row["labels"] = rows[0]["path"], rows[0]["labels"]
    clips = Dataset.from_list(rows)
    single = predict_clips(model, clips, extractor, progress=False)
    merged = predict_clips(model, clips, extractor, average_views=True, progress=False)
    assert merged.names == tuple(row["path"] for row in rows[:3])
    assert merged.views == (4, 1, 1)
    torch.testing.assert_close(merged.probabilities[0], single.probabilities[[0, 3, 4, 5]].mean(0))
    torch.testing.assert_close(merged.probabilities[1:], single.probabilities[1:3])


def test_one_view_a_file_changes_nothing_and_mixed_labels_are_refused():
    found = predictions(20)
    assert torch.equal(merge_views(found, found.names).probabilities, found.probabilities)
    with pytest.raises(SourceError, match=r"clips of one\.mp4 have different labels"):
        merge_views(predictions(20), ["one.mp4"] * 20)


def test_scores_of_guesses_hold_chance_in_their_intervals():
    for multi_label in (False, True):
        for score in score_classification(predictions(400, multi_label=multi_label), resamples=200):
            assert score.interval[0] <= score.value <= score.interval[1]
            assert score.interval[0] - 2 <= score.chance <= score.interval[1] + 2


def test_few_labelled_samples_among_many_have_an_interval_and_none_at_all_is_an_error():
    labels = torch.zeros(20, 3, dtype=torch.bool)
    labels[0, 1] = True  # every third resample has no label
    several = ClipPredictions(torch.rand(20, 3), labels, True, tuple(map(str, range(20))), (1,) * 20)
    (score,) = score_classification(several)
    assert 0 <= score.interval[0] <= score.interval[1] <= 100
    with pytest.raises(SourceError, match="no sample has any label"):
        score_classification(replace(several, labels=torch.zeros_like(labels)))


def test_every_fold_is_held_out_once_and_the_mean_comes_with_its_spread():
    folds = [3, 1, 2, 3, 1, 2, 2]
    seen = []

    def train_fold(fold, others, held_out):
        seen.append((fold, held_out))
        assert sorted(others + held_out) == list(range(7))
        assert {folds[place] for place in held_out} == {fold}
        return [Score("accuracy", {1: 70.0, 2: 80.0, 3: 90.0}[fold], chance=10.0 * fold), Score("loss", 1.0)]

    accuracy, loss = cross_validate(folds, train_fold)
    assert seen == [(1, [1, 4]), (2, [2, 5, 6]), (3, [0, 3])]
    assert (accuracy.value, accuracy.spread, accuracy.folds) == (80.0, 10.0, (70.0, 80.0, 90.0))
    assert (accuracy.chance, loss.chance) == (20.0, None)
    assert (loss.value, loss.spread) == (1.0, 0.0)


@pytest.mark.parametrize("folds", [[1, 1, 1], [1, 2, None], []])
def test_folds_that_cannot_be_held_out_are_refused(folds):
    with pytest.raises(SourceError, match="cross-validation needs a fold for every clip"):
        cross_validate(folds, lambda fold, others, held_out: [Score("accuracy", 0.0)])
