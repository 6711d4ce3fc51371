import pytest
import torch

from cmmixer_hf import CMMixerConfig
from cmmixer_hf.data.batches import LabelNames, find_labels
from cmmixer_hf.data.prepared_clips import SourceError


def config(**options) -> CMMixerConfig:
    names = find_labels([["rain"], ["crow", "wind"]])
    return CMMixerConfig(id2label=names, label2id={name: number for number, name in names.items()}, **options)


def test_one_label_is_its_place_in_the_configuration():
    names = LabelNames.of(config())
    numbers = [names.encode({"clip_id": "a", "labels": [name]}) for name in ("crow", "rain", "wind")]
    assert torch.stack(numbers).tolist() == [0, 1, 2]
    assert numbers[0].dtype == torch.int64


def test_several_labels_are_zeros_and_ones():
    names = LabelNames.of(config(problem_type="multi_label_classification"))
    for labels, expected in ((["wind", "crow"], [1.0, 0.0, 1.0]), (None, [0.0, 0.0, 0.0])):
        assert names.encode({"clip_id": "a", "labels": labels}).tolist() == expected


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["dog"], "'dog', the model knows crow"),
        ([], "has no label, the model expects one: label it"),
        (["crow", "rain"], "multi_label"),
    ],
)
def test_labels_that_do_not_fit_are_named(labels, message):
    with pytest.raises(SourceError, match=f"clip b.*{message}"):
        LabelNames.of(config()).encode({"clip_id": "b", "labels": labels})


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 2, 3)])
def test_classes_that_are_not_numbered_from_zero_are_refused(numbers):
    shifted = config()
    shifted.id2label = dict(zip(numbers, ("crow", "rain", "wind"), strict=True))
    with pytest.raises(SourceError, match="number them from 0 on"):
        LabelNames.of(shifted)


def test_clips_without_any_label_have_no_classes():
    with pytest.raises(SourceError, match=r"no clip has a label: .* column `label`"):
        find_labels([[], None])
