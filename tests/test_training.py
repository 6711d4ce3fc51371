import json

import pytest
import torch
from transformers import AutoModelForPreTraining, AutoProcessor

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.data import load_prepared
from cmmixer_hf.prepare import prepare
from cmmixer_hf.training import TrainingDivergedError, TrainingSettings, parameter_groups, train


@pytest.fixture(scope="module")
def prepared(clip_files, tmp_path_factory):
    from cmmixer_hf.media import Sampling

    folder = tmp_path_factory.mktemp("prepared")
    prepare(clip_files, folder / "out", Sampling(num_frames=2, shorter_side=32), progress=False)
    return load_prepared(folder / "out")


def settings(tmp_path, **changes) -> TrainingSettings:
    quick = {"epochs": 4, "warmup_epochs": 1.0, "batch_size": 3, "logging_steps": 1, "learning_rate": 1e-3}
    return TrainingSettings(output_dir=str(tmp_path / "run"), **(quick | changes))


def test_pretraining_learns_and_leaves_a_whole_run(prepared, extractor, tiny_config, tmp_path):
    model = CMMixerForPreTraining(tiny_config)
    history = train(model, prepared, extractor, settings(tmp_path, epochs=100, learning_rate=5e-3), progress=False)
    first, last = history[0], history[-1]
    assert last["step"] == 200
    assert last["loss"] < 0.9 * first["loss"]
    assert last["loss"] == pytest.approx(last["video_loss"] + last["audio_loss"], rel=1e-5)
    run = tmp_path / "run"
    assert [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] == history
    loaded = AutoModelForPreTraining.from_pretrained(run)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=0, atol=0)
    assert AutoProcessor.from_pretrained(run).feature_extractor.image_size == 32


def test_retrieval_trains_on_the_same_clips(prepared, extractor, tiny_config, tmp_path):
    tiny_config.temperature = 0.1
    history = train(
        CMMixerForRetrieval(tiny_config), prepared, extractor, settings(tmp_path, epochs=30), progress=False
    )
    assert history[-1]["loss"] < history[0]["loss"]


def test_a_seed_gives_the_same_run_bit_for_bit(prepared, extractor, tiny_config, tmp_path):
    def run(seed):
        torch.manual_seed(0)
        model = CMMixerForPreTraining(tiny_config)
        return train(model, prepared, extractor, settings(tmp_path, seed=seed), progress=False)

    assert run(0) == run(0) != run(1)


def test_keeping_spectrograms_changes_nothing(prepared, extractor, tiny_config, tmp_path):
    def run(keep):
        torch.manual_seed(0)
        chosen = settings(tmp_path, keep_spectrograms=keep)
        return train(CMMixerForPreTraining(tiny_config), prepared, extractor, chosen, progress=False)[-1]["loss"]

    assert run(True) == pytest.approx(run(False), rel=1e-5)


def test_the_schedule_warms_up_and_ends_at_the_minimum(prepared, extractor, tiny_config, tmp_path):
    chosen = settings(tmp_path, epochs=10, warmup_epochs=2.0, min_learning_rate=1e-5)
    history = train(CMMixerForPreTraining(tiny_config), prepared, extractor, chosen, progress=False)
    rates = [entry["learning_rate"] for entry in history]
    assert rates[0] == 0.0
    assert max(rates) == rates[4] == pytest.approx(1e-3)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert 1e-5 <= rates[-1] < 3e-5


def test_accumulation_takes_as_many_optimiser_steps_as_it_should(prepared, extractor, tiny_config, tmp_path):
    chosen = settings(tmp_path, batch_size=1, accumulation_steps=3)
    history = train(CMMixerForPreTraining(tiny_config), prepared, extractor, chosen, progress=False)
    assert history[-1]["step"] == 4 * 2


def test_the_last_steps_are_logged_too(prepared, extractor, tiny_config, tmp_path):
    chosen = settings(tmp_path, logging_steps=3)
    history = train(CMMixerForPreTraining(tiny_config), prepared, extractor, chosen, progress=False)
    assert [entry["step"] for entry in history] == [3, 6, 8]


def test_a_loss_that_is_no_number_stops_with_advice(prepared, extractor, tiny_config, tmp_path):
    model = CMMixerForPreTraining(tiny_config)
    with torch.no_grad():
        model.cmmixer.cls_token.fill_(float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"step 1 .*smaller learning rate"):
        train(model, prepared, extractor, settings(tmp_path), progress=False)
    assert not (tmp_path / "run").exists()


def test_only_matrices_decay(tiny_config):
    model = CMMixerForPreTraining(tiny_config)
    decaying, others = (group["params"] for group in parameter_groups(model, 0.05))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(
        names[id(parameter)].endswith(".weight") and "norm" not in names[id(parameter)] for parameter in decaying
    )
    assert {"cmmixer.cls_token", "decoders.0.mask_token"} <= {names[id(parameter)] for parameter in others}
    assert len(decaying) + len(others) == len(list(model.parameters()))
