import json
import os
import sqlite3
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from distributed import run_alone
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from training_runs import EXTRACTOR, final_state, make_model, make_settings, run_training, untimed
from transformers import AutoModelForPreTraining, AutoProcessor

from cmmixer_hf import (
    CMMixerFeatureExtractor,
    CMMixerForAudioClassification,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from cmmixer_hf.data.batches import KeptClips
from cmmixer_hf.data.prepared_clips import SourceError, load_prepared
from cmmixer_hf.models.baselines.frozen_features import FrozenFeatures
from cmmixer_hf.models.baselines.modeling_cbmvr import CBMVRForRetrieval, CMMVRForRetrieval
from cmmixer_hf.models.baselines.modeling_cvmvae import CVMVAEForRetrieval
from cmmixer_hf.models.baselines.modeling_mvpt import MVPtForRetrieval
from cmmixer_hf.training.log import TrainingDivergedError
from cmmixer_hf.training.loop import train


@pytest.fixture
def clips(prepared_folder):
    return load_prepared(prepared_folder)


def test_pretraining_learns_and_leaves_a_whole_run(clips, tmp_path):
    model = make_model()
    settings = make_settings(tmp_path, epochs=100, learning_rate=5e-3)
    history = train(model, clips, EXTRACTOR, settings, progress=False)
    first, last = history[0], history[-1]
    assert last["step"] == 200
    assert last["loss"] < 0.9 * first["loss"]
    assert last["loss"] == pytest.approx(last["video_loss"] + last["audio_loss"], rel=1e-5)
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == history
    loaded = AutoModelForPreTraining.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert AutoProcessor.from_pretrained(tmp_path).feature_extractor.image_size == 32


def test_weights_in_half_precision_are_trained_in_float32(clips, tmp_path):
    half, whole = make_model(CMMixerForRetrieval).half(), make_model(CMMixerForRetrieval).half().float()
    histories = [
        train(model, clips, EXTRACTOR, make_settings(tmp_path / name, epochs=3), progress=False)
        for name, model in (("half", half), ("whole", whole))
    ]
    assert untimed(histories[0]) == untimed(histories[1])
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert load_file(tmp_path / "half" / "model.safetensors").popitem()[1].dtype == torch.float32


def test_the_run_folder_has_a_card_whose_scores_are_of_its_weights(clips, tmp_path):
    settings = make_settings(tmp_path, epochs=2)

    def card() -> ModelCard:
        train(make_model(CMMixerForRetrieval), clips, EXTRACTOR, settings, progress=False)
        return ModelCard.load(tmp_path / "README.md")

    assert "4 steps of 3 clips." in card().text
    (tmp_path / "evaluation.json").write_text(json.dumps({"video_to_audio": {"R@1": 25.0}}))
    assert card().data.eval_results[0].metric_value == 25.0  # nothing was left to train
    settings.resume = False
    assert card().data.eval_results is None


@pytest.mark.parametrize("head", [CBMVRForRetrieval, CMMVRForRetrieval, CVMVAEForRetrieval, MVPtForRetrieval])
def test_what_is_no_public_class_gets_a_card_too(head, clips, tmp_path):
    features = FrozenFeatures.from_encoder(make_model(CMMixerModel))
    model = head.from_features(video=features, audio=features)
    train(model, clips, EXTRACTOR, make_settings(tmp_path, epochs=1), progress=False)
    assert f"from {head.__module__} import {head.__name__}" in (tmp_path / "README.md").read_text()


def test_retrieval_trains_on_the_same_clips(clips, tmp_path):
    settings = make_settings(tmp_path, epochs=30)
    history = train(make_model(CMMixerForRetrieval, temperature=0.1), clips, EXTRACTOR, settings, progress=False)
    assert history[-1]["loss"] < history[0]["loss"]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(
    ("head", "missing"), [(CMMixerForVideoClassification, "waveforms"), (CMMixerForAudioClassification, "frames")]
)
def test_classifiers_learn_labels_from_one_modality(head, missing, several, clips, tmp_path):
    names = {0: "crow", 1: "rain", 2: "wind"}
    labels = [["rain"], ["wind"], ["crow"]] * 2
    if several:
        labels = [["rain", "wind"], [], ["crow"]] * 2
    rows = [row | {"labels": given, missing: None} for row, given in zip(clips, labels, strict=True)]
    problem = "multi_label_classification" if several else "single_label_classification"
    model = make_model(head, id2label=names, label2id={v: k for k, v in names.items()}, problem_type=problem)
    settings = make_settings(tmp_path, epochs=40, batch_size=6, layer_decay=0.75, augment=False, learning_rate=3e-3)
    history = train(model, rows, EXTRACTOR, settings, progress=False)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    with pytest.raises(SourceError, match="clip clip1 has the label 'dog'"):
        train(model, [rows[1] | {"labels": ["dog"]}] * 6, EXTRACTOR, make_settings(tmp_path / "b"), progress=False)


def test_a_modality_that_nobody_needs_is_not_read(clips, tmp_path, monkeypatch):
    read = []
    original = type(clips).__getitems__
    monkeypatch.setattr(type(clips), "__getitems__", lambda *args: read.extend(rows := original(*args)) or rows)
    labelled = make_model(CMMixerForAudioClassification, problem_type="multi_label_classification")
    train(labelled, clips, EXTRACTOR, make_settings(tmp_path, max_steps=1), progress=False)
    assert {"waveforms", "labels"} <= set(read[0])
    assert "frames" not in read[0]


def test_a_seed_gives_the_same_run_bit_for_bit(prepared_folder, tmp_path):
    runs = [untimed(run_training(prepared_folder, tmp_path / str(n), seed=seed)) for n, seed in enumerate((0, 0, 1))]
    assert runs[0] == runs[1] != runs[2]


def test_every_batch_has_crops_a_mixture_and_a_mask_of_its_own(clips, tmp_path):
    seen = []

    def keep(module, arguments, options, output):
        seen.append([options["pixel_values"], output.mixing_mask, output.mask])

    model = make_model()
    model.register_forward_hook(keep, with_kwargs=True)
    one_clip = [clips[0]] * 3
    train(model, one_clip, EXTRACTOR, make_settings(tmp_path, epochs=3, batch_size=3), progress=False)
    for first, second, third in zip(*seen, strict=True):
        assert not torch.equal(first, second)
        assert not torch.equal(second, third)


def test_training_leaves_the_callers_random_numbers_alone(prepared_folder, tmp_path):
    model = make_model()
    state = torch.get_rng_state()
    train(model, load_prepared(prepared_folder), EXTRACTOR, make_settings(tmp_path), progress=False)
    assert torch.equal(torch.get_rng_state(), state)


def test_keeping_spectrograms_changes_nothing(prepared_folder, tmp_path):
    last = [run_training(prepared_folder, tmp_path / str(keep), keep_spectrograms=keep)[-1] for keep in (True, False)]
    assert last[0]["loss"] == pytest.approx(last[1]["loss"], rel=1e-5)


def test_clips_that_are_kept_already_are_shared_and_refused_where_they_do_not_fit(clips, tmp_path):
    rows = [*clips]
    rows[5] = rows[5] | {"labels": ["unknown"]}
    kept = KeptClips(Dataset.from_list(rows), EXTRACTOR)
    alone = train(make_model(), Dataset.from_list(rows), EXTRACTOR, make_settings(tmp_path / "a"), progress=False)
    for name, keep in (("b", True), ("c", False)):
        settings = make_settings(tmp_path / name, keep_spectrograms=keep)
        shared = train(make_model(), kept, EXTRACTOR, settings, progress=False)
        assert shared[-1]["loss"] == pytest.approx(alone[-1]["loss"], rel=1e-5)
    other = CMMixerFeatureExtractor(image_size=32, num_frames=2, standardize=True)
    with pytest.raises(SourceError, match="kept with spectrograms of another extractor"):
        train(make_model(), kept, other, make_settings(tmp_path / "d"), progress=False)
    labelled = make_model(CMMixerForAudioClassification, id2label={0: "crow", 1: "rain"})
    with pytest.raises(SourceError, match="label"):
        train(labelled, kept, EXTRACTOR, make_settings(tmp_path / "e", save_steps=1), progress=False)
    assert not list((tmp_path / "e").glob("checkpoints/step-*"))
    stream = KeptClips(Dataset.from_list(rows).to_iterable_dataset(), EXTRACTOR)
    with pytest.raises(SourceError, match="IterableDataset has no length"):
        train(make_model(), stream, EXTRACTOR, make_settings(tmp_path / "f"), progress=False)


def test_activation_checkpointing_changes_nothing(prepared_folder, tmp_path):
    options = {"config": {"hidden_dropout_prob": 0.1}}
    for again in (False, True):
        run_training(prepared_folder, tmp_path / str(again), activation_checkpointing=again, **options)
    torch.testing.assert_close(*(final_state(tmp_path / str(again))[0] for again in (False, True)))


def test_the_schedule_warms_up_and_ends_at_the_minimum(prepared_folder, tmp_path):
    history = run_training(prepared_folder, tmp_path, epochs=10, warmup_epochs=2.0, min_learning_rate=1e-5)
    rates = [entry["learning_rate"] for entry in history]
    assert rates[0] == 0.0
    assert max(rates) == rates[4] == 1e-3
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 1e-5 <= rates[-1] < 3e-5


def test_accumulating_small_batches_is_one_large_one(prepared_folder, tmp_path):
    """Not for pre-training, whose masks are drawn batch by batch, but for a loss that is a mean over clips."""
    names = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}, "problem_type": "multi_label_classification"}

    def losses(**batches):
        options = {"config": names, "augment": False, **batches}
        folder = tmp_path / str(batches["batch_size"])
        return [
            entry["loss"] for entry in run_training(prepared_folder, folder, CMMixerForVideoClassification, **options)
        ]

    assert losses(batch_size=6) == pytest.approx(losses(batch_size=2, accumulation_steps=3), rel=1e-4)


def test_steps_instead_of_epochs(prepared_folder, tmp_path):
    history = run_training(prepared_folder, tmp_path, max_steps=5, warmup_epochs=0.0)
    assert [entry["step"] for entry in history] == [1, 2, 3, 4, 5]
    assert history[-1]["epoch"] == 2.5


def test_the_last_steps_are_logged_too(prepared_folder, tmp_path):
    history = run_training(prepared_folder, tmp_path, logging_steps=3)
    assert [entry["step"] for entry in history] == [3, 6, 8]


def test_a_clip_is_decoded_once_for_all_its_samples(clips, tmp_path):
    seen = []
    model = make_model()
    model.register_forward_pre_hook(lambda module, args, inputs: seen.append(inputs), with_kwargs=True)
    settings = make_settings(tmp_path, batch_size=6, repeats=3, max_steps=1)
    train(model, clips, EXTRACTOR, settings, progress=False)
    (inputs,) = seen
    audio_values, pixel_values = inputs["audio_values"], inputs["pixel_values"]
    assert [torch.equal(audio_values[0], other) for other in audio_values] == [True] * 3 + [False] * 3
    assert not torch.equal(pixel_values[0], pixel_values[1])


def test_fewer_clips_than_a_batch_make_smaller_ones(clips, tmp_path, caplog):
    settings = make_settings(tmp_path, batch_size=32, accumulation_steps=2, epochs=2)
    assert len(train(make_model(), clips, EXTRACTOR, settings, progress=False)) == 2
    assert "6 clips make batches of 3 instead of 32" in caplog.text
    with pytest.raises(SourceError, match="6 clips are too few for steps of 7 batches"):
        train(make_model(), clips, EXTRACTOR, make_settings(tmp_path, accumulation_steps=7), progress=False)


def test_a_loss_that_is_no_number_stops_with_advice(clips, tmp_path):
    model = make_model()
    with torch.no_grad():
        model.cmmixer.cls_token.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"nan at step 1, learning rate 0.*smaller learning rate"):
        train(model, clips, EXTRACTOR, make_settings(tmp_path, logging_steps=4), progress=False)
    assert not (tmp_path / "config.json").exists()


def test_a_loss_that_runs_away_stops_with_advice(prepared_folder, tmp_path):
    wild = {"learning_rate": 3.0, "warmup_epochs": 0.5, "max_gradient_norm": 0.0, "epochs": 20}
    with pytest.raises(TrainingDivergedError, match=r"learning rate \d.*after .* at the start.*divergence_factor"):
        run_training(prepared_folder, tmp_path, **wild)
    assert run_training(prepared_folder, tmp_path, divergence_factor=0.0, resume=False, **wild)[-1]["step"] == 40


def test_scores_join_the_history(clips, tmp_path):
    modes = []

    def evaluate(model):
        modes.append(model.training)
        return {"R@1": 7.0}

    settings = make_settings(tmp_path, evaluation_epochs=2)
    model = make_model()
    history = train(model, clips, EXTRACTOR, settings, evaluate=evaluate, progress=False)
    assert [(entry["step"], entry["epoch"]) for entry in history if "R@1" in entry] == [(4, 2.0), (8, 4.0)]
    assert modes == [False, False]
    assert model.training


def test_what_trained_is_what_a_checkpoint_holds(prepared_folder, tmp_path):
    run_training(prepared_folder, tmp_path, save_steps=3)
    newest = tmp_path / "checkpoints" / "step-00000008"
    torch.testing.assert_close(load_file(newest / "model.safetensors"), load_file(tmp_path / "model.safetensors"))
    assert AutoProcessor.from_pretrained(newest).feature_extractor.image_size == 32


def test_a_compiled_model_in_bf16_has_plain_checkpoints(prepared_folder, tmp_path, monkeypatch):
    run_training(prepared_folder, tmp_path / "before", epochs=1)  # eager and in float32, in the same process
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "aot_eager")  # as `accelerate launch` does; inductor takes minutes
    torch.compiler.reset()
    options = {"mixed_precision": "bf16", "epochs": 2, "save_steps": 2}
    history = run_training(prepared_folder, tmp_path, **options)
    assert untimed(run_training(prepared_folder, tmp_path, **options)) == untimed(history)
    weights = final_state(tmp_path)[0]
    assert weights.keys() == make_model().state_dict().keys()
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_gradients_are_clipped(prepared_folder, tmp_path, monkeypatch):
    norms = []
    step = torch.optim.AdamW.step

    def spy(optimizer, *arguments, **options):
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        norms.append(torch.nn.utils.get_total_norm(gradients).item())
        return step(optimizer, *arguments, **options)

    monkeypatch.setattr(torch.optim.AdamW, "step", spy)
    history = run_training(prepared_folder, tmp_path, max_gradient_norm=0.01)
    assert norms == pytest.approx([0.01] * len(history), rel=1e-3)
    assert all(entry["gradient_norm"] > 0.02 for entry in history)


def test_the_run_folder_holds_all_about_its_making(prepared_folder, tmp_path):
    run_training(prepared_folder, tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"settings.yaml", "environment.json", "metrics.jsonl", "config.json", "model.safetensors"} <= names
    assert ("curves.png" in names) == (find_spec("matplotlib") is not None)


def test_pictures_show_how_one_clip_is_taken_apart(prepared_folder, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    plain = run_training(prepared_folder, tmp_path / "plain")
    drawn = run_training(prepared_folder, tmp_path / "drawn", picture_epochs=2)
    assert untimed(plain) == untimed(drawn)
    pictures = [pillow.open(path) for path in sorted((tmp_path / "drawn" / "pictures").iterdir())]
    assert [Path(picture.filename).name for picture in pictures] == ["epoch-0002.png", "epoch-0004.png"]
    mixtures = [np.asarray(picture)[2 * 36 : 2 * 36 + 32] for picture in pictures]  # the third of six strips
    np.testing.assert_array_equal(*mixtures)
    assert not np.array_equal(*map(np.asarray, pictures))


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = folder.glob("run/trackers/cmmixer_hf/events*")
    found = EventAccumulator(str(events.parent)).Reload()
    return [(event.step, event.value) for event in found.Scalars("loss")]


def read_trackio(folder):
    rows = sqlite3.connect(folder / "trackio" / "cmmixer_hf.db").execute(
        "select step, metrics from metrics order by step"
    )
    return [(step, json.loads(metrics)["loss"]) for step, metrics in rows]


def train_with_tracker(clips, folder, tracker):
    os.environ["TRACKIO_DIR"] = str(folder / "trackio")  # read when it is imported
    run_training(clips, folder / "run", log_with=tracker, logging_steps=2)


@pytest.mark.parametrize(("tracker", "read"), [("tensorboard", read_tensorboard), ("trackio", read_trackio)])
def test_a_tracker_sees_the_history(tracker, read, prepared_folder, tmp_path):
    if find_spec(tracker) is None:
        pytest.skip(f"{tracker} comes with the extra `tracking`")
    assert run_alone(train_with_tracker, prepared_folder, tmp_path, tracker) == 0
    history = final_state(tmp_path / "run")[2][1]
    seen = read(tmp_path)
    assert [step for step, _ in seen] == [entry["step"] for entry in history]
    assert [value for _, value in seen] == pytest.approx([entry["loss"] for entry in history], rel=1e-6)


def test_wandb_works_without_a_network(prepared_folder, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb comes with the extra `tracking`")
    monkeypatch.setenv("WANDB_MODE", "offline")
    run_training(prepared_folder, tmp_path / "run", log_with="wandb")
    assert list((tmp_path / "run" / "trackers").glob("wandb/offline-run-*/*.wandb"))
