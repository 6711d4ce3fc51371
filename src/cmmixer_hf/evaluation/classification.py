"""Classification of prepared clips (§4.7): predictions, averaged over views, scores, and scores over folds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from datasets import Dataset
from torch import Tensor

from ..data.batches import LabelNames, SourceError
from ..data.prepared_clips import Row
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.modeling_cav_mae import CAVMAEForAudioVisualClassification
from ..models.modeling_cmmixer import CMMixerForAudioClassification, CMMixerForVideoClassification
from .inference import map_batches
from .intervals import bootstrap_interval, mean_and_spread
from .metrics import (
    average_groups,
    average_precisions,
    chance_accuracy,
    chance_average_precision,
    mean_average_precision,
    top_k_hits,
)
from .results import Score

Classifier = CMMixerForVideoClassification | CMMixerForAudioClassification | CAVMAEForAudioVisualClassification
TOP = (1, 5)
# What a CAV-MAE classifier takes, by `config.classifier_stream`.
STREAM_INPUTS = {"joint": ("pixel_values", "audio_values"), "audio": ("audio_values",), "video": ("pixel_values",)}


@dataclass(frozen=True)
class ClipPredictions:
    """Predictions of a classifier.

    Args:
        probabilities: (samples, classes).
        labels: (samples, classes) bool, the right classes.
        multi_label: any number of classes a sample, each with its own probability; otherwise one, and they add up to 1.
        names: of each sample: its clip, or the file whose views were averaged.
        views: number of clips that were averaged for each sample.
    """

    probabilities: Tensor
    labels: Tensor
    multi_label: bool
    names: tuple[str, ...]
    views: tuple[int, ...]


def predict_clips(
    model: Classifier,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    *,
    average_views: bool = False,
    batch_size: int = 32,
    progress: bool = True,
) -> ClipPredictions:
    """Classify prepared clips; every process gets all predictions.

    Args:
        model: its `config.id2label` names the classes, and `config.problem_type` says whether a clip has several.
        clips: rows with `labels`.
        extractor: makes the stacks.
        average_views: clips that were cut from one file are views of one sample; their probabilities are averaged, as
            for K400's temporal clips. By default each clip is a sample.
        batch_size, progress: as in [`embed_clips`].

    Raises:
        SourceError: a clip has a label that the model does not know, or none or several for a model of one.
    """
    labels = LabelNames.of(model.config)
    inputs = STREAM_INPUTS.get(getattr(model.config, "classifier_stream", ""), (model.main_input_name,))

    def predict(stacks: dict[str, Tensor], rows: list[Row]) -> tuple[Tensor, list[Row]]:
        logits = model(**{name: stacks[name] for name in inputs})["logits"].float()
        return (logits.sigmoid() if labels.several else logits.softmax(-1)).cpu(), rows

    batches = map_batches(
        predict, model, clips, extractor, batch_size=batch_size, progress=progress, description="classifying"
    )
    rows = [row for _, batch in batches for row in batch]
    predictions = ClipPredictions(
        probabilities=torch.cat([batch for batch, _ in batches]),
        labels=torch.stack([labels.truths(row) for row in rows]),
        multi_label=labels.several,
        names=tuple(row["clip_id"] for row in rows),
        views=(1,) * len(rows),
    )
    return merge_views(predictions, [row["path"] for row in rows]) if average_views else predictions


def merge_views(predictions: ClipPredictions, files: Sequence[str]) -> ClipPredictions:
    """One prediction a file: the mean of the probabilities of its views, in the order of their first ones.

    Args:
        predictions: of views, which are temporal clips of a file, or single frames of it as CAV-MAE averages.
        files: what each view shows.

    Raises:
        SourceError: views of one file have different labels.
    """
    numbers: dict[str, int] = {}
    groups = torch.tensor([numbers.setdefault(file, len(numbers)) for file in files])
    labels = average_groups(predictions.labels.float(), groups)
    mixed = ((labels > 0) & (labels < 1)).any(1)
    if mixed.any():
        name = list(numbers)[int(mixed.nonzero()[0])]
        raise SourceError(f"clips of {name} have different labels, so they are not views of one sample: do not average")
    return ClipPredictions(
        average_groups(predictions.probabilities, groups),
        labels.bool(),
        predictions.multi_label,
        tuple(numbers),
        tuple(groups.bincount().tolist()),
    )


def score_classification(predictions: ClipPredictions, *, resamples: int = 1000, seed: int = 0) -> list[Score]:
    """Top-1 and top-5 accuracy, or mAP of a multi-label task, in percent, each with a 95 % interval over the samples.

    >>> right = torch.eye(4)
    >>> predictions = ClipPredictions(right, right.bool(), False, tuple("abcd"), (1,) * 4)
    >>> [(score.metric, score.value, score.chance) for score in score_classification(predictions)]
    [('top1_accuracy', 100.0, 25.0), ('top5_accuracy', 100.0, 100.0)]
    """
    pair = predictions.probabilities, predictions.labels
    if not predictions.labels.any():
        raise SourceError("no sample has any label, so that there is nothing to find: label the clips")
    options = {"resamples": resamples, "seed": seed}
    if predictions.multi_label:
        interval = bootstrap_interval(lambda *drawn: 100 * average_precisions(*drawn).nanmean(), *pair, **options)
        return [Score("mAP", mean_average_precision(*pair), interval, chance_average_precision(predictions.labels))]
    scores = []
    for k in TOP:
        right = 100 * top_k_hits(*pair, k)
        interval = bootstrap_interval(torch.mean, right, **options)
        scores.append(Score(f"top{k}_accuracy", right.mean().item(), interval, chance_accuracy(predictions.labels, k)))
    return scores


def cross_validate(
    folds: Sequence[int | None], train_fold: Callable[[int, list[int], list[int]], Sequence[Score]]
) -> list[Score]:
    """Train as often as there are folds, each time without one, and score on that one, as for ESC-50.

    Args:
        folds: the fold of each clip.
        train_fold: from a fold's number, the places of the clips to train on and those of the held-out ones, to scores.

    Returns:
        for each of its scores the mean over the folds, their standard deviation as `spread`, and the values; the mean
        of `chance` too, where they have it.

    Raises:
        SourceError: a clip has no fold, or there are fewer than two.

    >>> [score] = cross_validate([1, 2, 2, 1], lambda fold, others, held_out: [Score("accuracy", 10.0 * sum(held_out))])
    >>> score.value, score.folds
    (30.0, (30.0, 30.0))
    """
    scores_of_folds = [train_fold(*split) for split in split_folds(folds)]
    return [_over_folds(scores) for scores in zip(*scores_of_folds, strict=True)]


def split_folds(folds: Sequence[int | None]) -> list[tuple[int, list[int], list[int]]]:
    """Each fold's number, the places of the clips outside it, and those in it; errors as in [`cross_validate`].

    >>> split_folds([1, 2, 2])
    [(1, [1, 2], [0]), (2, [0], [1, 2])]
    """
    numbers = sorted({fold for fold in folds if fold is not None})
    if len(numbers) < 2 or None in folds:
        raise SourceError(
            f"cross-validation needs a fold for every clip and two folds at least, got {numbers} and "
            f"{sum(fold is None for fold in folds)} clips without one: give all a fold when preparing them"
        )
    places = range(len(folds))
    return [
        (number, [place for place in places if folds[place] != number], [p for p in places if folds[p] == number])
        for number in numbers
    ]


def _over_folds(scores: Sequence[Score]) -> Score:
    """One score of every fold → their mean."""
    values = tuple(score.value for score in scores)
    mean, spread = mean_and_spread(values)
    chances = [score.chance for score in scores if score.chance is not None]
    chance = fmean(chances) if len(chances) == len(scores) else None
    return Score(scores[0].metric, mean, chance=chance, spread=spread, folds=values)
