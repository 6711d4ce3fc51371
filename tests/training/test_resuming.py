"""A run that was killed and goes on equals one that was not, bit for bit."""

import itertools
import json
import logging
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from distributed import run_alone
from training_runs import EXTRACTOR, final_state, make_model, make_settings, run_training, train_until_killed, untimed

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.files import file_digest
from cmmixer_hf.training.checkpoints import CheckpointError, identity
from cmmixer_hf.training.loader import plan_order
from cmmixer_hf.training.settings import TrainingSettings

# Three steps an epoch of two batches each, a checkpoint every other step; dropout and drop-path draw numbers too.
RUN = {
    "epochs": 3,
    "batch_size": 1,
    "accumulation_steps": 2,
    "save_steps": 2,
    "logging_steps": 3,
    "config": {"hidden_dropout_prob": 0.1, "drop_path_rate": 0.1},
}
BATCH, WRITING, SEALING = (
    "cmmixer_hf.training.model_inputs:ModelInputs.__call__",
    "torch:save",
    "cmmixer_hf.training.checkpoints:file_digest",
)
POINTS = {
    "before there is a checkpoint": f"{BATCH}:3",
    "in the middle of an epoch and of a step": f"{BATCH}:10",
    "weights are written, the optimiser is not": f"{WRITING}:2",
    "all is written, but not in its place": f"{SEALING}:7",
}


@pytest.fixture(scope="module")
def uninterrupted(prepared_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    run_training(prepared_folder, folder, **RUN)
    return folder


def assert_same_run(folder: Path, expected: Path) -> None:
    *found, words = final_state(folder)
    *wanted, other_words = final_state(expected)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)
    assert words == other_words
    weights = CMMixerForPreTraining.from_pretrained(folder).state_dict()
    torch.testing.assert_close(weights, CMMixerForPreTraining.from_pretrained(expected).state_dict(), rtol=0, atol=0)
    lines = [untimed([json.loads(line) for line in (run / "metrics.jsonl").open()]) for run in (folder, expected)]
    assert lines[0] == lines[1]
    assert not list(folder.rglob(".*"))


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_killed_and_resumed_equals_uninterrupted(point, uninterrupted, prepared_folder, tmp_path):
    assert run_alone(train_until_killed, prepared_folder, tmp_path, point, RUN) == -signal.SIGKILL
    assert not (tmp_path / "config.json").exists()
    assert run_alone(run_training_again, prepared_folder, tmp_path) == 0
    assert_same_run(tmp_path, uninterrupted)


@pytest.mark.slow
def test_twenty_kills_with_loader_workers_lose_nothing(prepared_folder, tmp_path):
    """In the middle of a step, of writing and of sealing a checkpoint, each a step or two further than the last."""
    run = RUN | {"epochs": 10, "save_steps": 1, "num_workers": 2}
    run_training(prepared_folder, tmp_path / "expected", **run)
    folder, kills, newest = tmp_path / "run", 0, ""
    for point in itertools.cycle([f"{BATCH}:4", f"{WRITING}:2", f"{SEALING}:14"]):
        code = run_alone(train_until_killed, prepared_folder, folder, point, run)
        steps = [path.name for path in folder.glob("checkpoints/step-*")]
        assert max(steps) >= newest
        newest = max(steps)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills >= 20
    assert_same_run(folder, tmp_path / "expected")


def run_training_again(clips: Path, folder: Path) -> None:
    run_training(clips, folder, **RUN)


def test_killed_again_and_again(uninterrupted, prepared_folder, tmp_path):
    for _ in range(3):
        assert run_alone(train_until_killed, prepared_folder, tmp_path, f"{BATCH}:6", RUN) == -signal.SIGKILL
    run_training(prepared_folder, tmp_path, **RUN)
    assert_same_run(tmp_path, uninterrupted)


def test_how_clips_are_read_may_change_on_the_way(prepared_folder, tmp_path):
    window, expected = RUN | {"shuffle_shards": 2}, tmp_path / "expected"
    run_training(prepared_folder, expected, **window)
    assert run_alone(train_until_killed, prepared_folder, tmp_path / "run", f"{BATCH}:10", window) == -signal.SIGKILL
    run_training(prepared_folder, tmp_path / "run", **(window | {"num_workers": 2, "streaming": True}))
    assert_same_run(tmp_path / "run", expected)


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(uninterrupted, prepared_folder, tmp_path, caplog):
    folder = tmp_path / "run"
    shutil.copytree(uninterrupted, folder)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        run_training(prepared_folder, folder, **RUN)
    assert f"{newest.name} is damaged, model.safetensors has changed" in caplog.text
    assert_same_run(folder, uninterrupted)


def test_a_finished_run_is_not_trained_again(uninterrupted, prepared_folder, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    state = (tmp_path / "run" / "checkpoints" / "step-00000009" / "training.pt").stat().st_mtime_ns
    history = run_training(prepared_folder, tmp_path / "run", **RUN)
    assert untimed(history) == final_state(uninterrupted)[2][1]
    assert (tmp_path / "run" / "checkpoints" / "step-00000009" / "training.pt").stat().st_mtime_ns == state
    assert_same_run(tmp_path / "run", uninterrupted)


def test_another_run_is_not_taken_for_this_one(uninterrupted, prepared_folder, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"a run with seed = 0, this one has 7: .*resume=false"):
        run_training(prepared_folder, tmp_path / "run", **(RUN | {"seed": 7}))
    assert_same_run(tmp_path / "run", uninterrupted)
    run_training(prepared_folder, tmp_path / "run", **(RUN | {"seed": 7, "resume": False, "max_steps": 1}))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["step-00000001"]


@pytest.mark.parametrize("change", [{"learning_rate": 2e-3}, {"epochs": 5}, {"repeats": 2}, {"shuffle_shards": 1}])
def test_what_changes_the_result_makes_another_run(change):
    assert run_identity() != run_identity(**change)


@pytest.mark.parametrize("change", [{"num_workers": 3}, {"log_with": "wandb"}, {"save_steps": 7}, {"compile": True}])
def test_how_a_run_is_run_may_change(change):
    assert run_identity() == run_identity(**change)


def test_a_scripts_own_settings_count_too():
    @dataclass
    class Script(TrainingSettings):
        mixer: str = "cutmix"

    def of_script(**changes) -> dict:
        settings = Script(output_dir="run", batch_size=2, **changes)
        return identity(settings, plan_order(range(100), settings, 1), model=make_model(), extractor=EXTRACTOR)

    assert of_script() == of_script(num_workers=2)
    assert of_script() != of_script(mixer="pixel")


def test_model_and_extractor_make_another_run():
    assert run_identity() == run_identity(model=make_model(), extractor=EXTRACTOR)
    others = [make_model(mask_ratio=0.75), make_model(CMMixerForRetrieval), make_model(mixer_kwargs={"num_boxes": 2})]
    assert all(run_identity() != run_identity(model=model) for model in others)
    assert run_identity() != run_identity(extractor=CMMixerFeatureExtractor(image_size=32, num_frames=2, n_fft=512))


def test_where_an_extractor_was_shared_changes_no_run():
    shared = CMMixerFeatureExtractor(image_size=32, num_frames=2, auto_map={"AutoFeatureExtractor": "other.Extractor"})
    assert run_identity(extractor=shared) == run_identity(extractor=EXTRACTOR)


def test_clips_that_compete_are_part_of_a_contrastive_run():
    """Accumulation adds no negatives: a larger batch or more processes do."""

    def contrastive(**options) -> dict:
        return run_identity(model=make_model(CMMixerForRetrieval), **options)

    two_processes = contrastive(processes=2, batch_size=7)
    assert two_processes == contrastive(batch_size=14)
    assert two_processes != contrastive(batch_size=7, accumulation_steps=2)
    assert two_processes != contrastive(batch_size=7)
    assert run_identity(processes=2, batch_size=7) == run_identity(batch_size=7, accumulation_steps=2)


def test_a_contrastive_run_is_not_resumed_with_fewer_negatives(prepared_folder, tmp_path):
    short = {"max_steps": 1, "save_steps": 1, "warmup_epochs": 0.0}
    run_training(prepared_folder, tmp_path, CMMixerForRetrieval, batch_size=4, **short)
    with pytest.raises(
        CheckpointError, match=r"clips_that_compete = 4, this one has 2: accumulation adds no negatives"
    ):
        run_training(prepared_folder, tmp_path, CMMixerForRetrieval, batch_size=2, accumulation_steps=2, **short)


def test_a_finished_run_goes_on_with_more_epochs(prepared_folder, tmp_path, caplog):
    whole = run_training(prepared_folder, tmp_path / "whole", epochs=4)
    first = run_training(prepared_folder, tmp_path / "parts", epochs=2)
    both = run_training(prepared_folder, tmp_path / "parts", epochs=4)
    assert "a finished run of 4 steps goes on to step 8" in caplog.text
    assert untimed(both[:4]) == untimed(first)
    assert [entry["step"] for entry in both] == list(range(1, 9))
    rates = [[entry["learning_rate"] for entry in history[4:]] for history in (both, whole)]
    assert rates[0] == pytest.approx(rates[1])  # the longer schedule from here
    with pytest.raises(CheckpointError, match=r"steps = 8, this one has 4: only a finished run can be made longer"):
        run_training(prepared_folder, tmp_path / "parts", epochs=2)


def test_a_run_under_way_is_not_made_longer(prepared_folder, tmp_path):
    assert run_alone(train_until_killed, prepared_folder, tmp_path, f"{BATCH}:10", RUN) == -signal.SIGKILL
    with pytest.raises(CheckpointError, match="steps = 9, this one has 12"):
        run_training(prepared_folder, tmp_path, **(RUN | {"epochs": 4}))


class Payload:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_a_forged_checkpoint_is_refused_in_a_sentence(uninterrupted, prepared_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(uninterrupted, "run")
    newest = sorted(Path("run/checkpoints").iterdir())[-1]
    torch.save({"optimizer": Payload()}, newest / "training.pt")
    manifest = json.loads((newest / "manifest.json").read_text())
    (newest / "manifest.json").write_text(json.dumps(manifest | {"training.pt": file_digest(newest / "training.pt")}))
    with pytest.raises(CheckpointError, match=r"training\.pt is not what a training of this package writes"):
        run_training(prepared_folder, Path("run"), **RUN)
    assert not Path("pwned").exists()


def test_another_model_is_refused_by_the_name_of_what_differs(uninterrupted, prepared_folder, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    message = r"a run with model.mask_ratio = 0.5, this one has 0.75"
    with pytest.raises(CheckpointError, match=message):
        run_training(
            prepared_folder, tmp_path / "run", **(RUN | {"config": RUN.get("config", {}) | {"mask_ratio": 0.75}})
        )


def test_processes_may_change_places_with_accumulation():
    assert run_identity(accumulation_steps=4) == run_identity(processes=2, accumulation_steps=2)
    assert run_identity(accumulation_steps=4) != run_identity(processes=2, accumulation_steps=4)


def run_identity(processes: int = 1, model=None, extractor=EXTRACTOR, **changes) -> dict:
    settings = make_settings(Path("run"), **({"batch_size": 2} | changes))
    order = plan_order(range(100), settings, processes)
    return identity(settings, order, model=model or make_model(), extractor=extractor)
