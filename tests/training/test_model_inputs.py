import pytest
from training_runs import EXTRACTOR, make_model, make_settings, run_training

from cmmixer_hf import (
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
)
from cmmixer_hf.data.prepared_clips import SourceError, load_prepared
from cmmixer_hf.training.model_inputs import ModelInputs

TAKES = {
    CMMixerForPreTraining: {"pixel_values", "audio_values"},
    CMMixerForRetrieval: {"pixel_values", "audio_values", "track_id"},
    CMMixerForVideoClassification: {"pixel_values", "labels"},
    CMMixerForAudioClassification: {"audio_values", "labels"},
}


@pytest.mark.parametrize("head", TAKES)
@pytest.mark.parametrize("repeats", [1, 2])
def test_a_model_gets_what_its_forward_takes_and_no_more(head, repeats, prepared_folder, tmp_path):
    model = make_model(head, id2label={0: "a"}, label2id={"a": 0}, problem_type="multi_label_classification")
    inputs = ModelInputs(model, EXTRACTOR, make_settings(tmp_path, batch_size=2, repeats=repeats))
    clips = inputs.needed(load_prepared(prepared_folder))
    arguments = inputs(inputs.collate([clips[0], clips[1]]))
    assert set(arguments) == TAKES[head]
    assert {len(value) for value in arguments.values()} == {2 * repeats}
    assert ("frames" in clips.column_names) == ("pixel_values" in TAKES[head])
    assert model(**arguments).loss.isfinite()


def test_samples_of_a_clip_lie_side_by_side(prepared_folder, tmp_path):
    inputs = ModelInputs(make_model(CMMixerForRetrieval), EXTRACTOR, make_settings(tmp_path, batch_size=4, repeats=2))
    clips = load_prepared(prepared_folder)
    first, again, second, last = inputs(inputs.collate([clips[0], clips[1]]))["track_id"].tolist()
    assert first == again != second == last


def test_clips_without_labels_are_refused_before_the_first_step(prepared_folder, tmp_path):
    one = {"config": {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "problem_type": None}}
    with pytest.raises(SourceError, match=r"clip .* has no label, the model expects one: label it, or leave it out"):
        run_training(prepared_folder, tmp_path / "run", CMMixerForVideoClassification, **one)
    assert not (tmp_path / "run").exists()
