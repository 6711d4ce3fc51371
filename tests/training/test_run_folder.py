import json
import multiprocessing
import time

import numpy as np
import pytest
from training_runs import make_settings

from cmmixer_hf.training import run_folder
from cmmixer_hf.training.run_folder import RunFolder, RunFolderError, describe_environment
from cmmixer_hf.training.settings import TrainingSettings, read_settings


def test_what_runs_is_written_down_before_it_runs(tmp_path):
    settings = make_settings(tmp_path / "run", learning_rate=3e-3)
    folder = RunFolder(tmp_path / "run")
    folder.begin(settings, [], processes=3)
    assert read_settings(TrainingSettings, arguments=["--config", str(folder.path / "settings.yaml")]) == settings
    environment = json.loads((folder.path / "environment.json").read_text())
    assert environment["processes"] == 3
    assert {"torch", "transformers", "accelerate"} <= set(environment["packages"])
    assert environment["devices"]


@pytest.mark.parametrize("name", ["README.md", "settings.yaml", "config.json", "checkpoints"])
def test_a_folder_of_somebody_else_is_refused_and_left_alone(name, tmp_path):
    (tmp_path / name).mkdir() if name == "checkpoints" else (tmp_path / name).write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    message = rf"holds {name}, which no training wrote .* choose another output_dir"
    with pytest.raises(RunFolderError, match=message), RunFolder(tmp_path).held():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {name, "notes.txt"}


def test_files_of_other_names_are_in_nobodys_way(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    folder = RunFolder(tmp_path)
    with folder.held():
        folder.begin(make_settings(tmp_path), [], processes=1)
    with folder.held():  # again, now that it is a run's
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def hold_until_killed(folder):
    with RunFolder(folder).held():
        (folder / "held").touch()
        time.sleep(600)


def test_two_trainings_never_share_a_folder_and_a_killed_one_does_not_keep_it(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "LOCK_PATIENCE", 0.1)
    process = multiprocessing.get_context("spawn").Process(target=hold_until_killed, args=(tmp_path,))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.05)
    with pytest.raises(RunFolderError, match=r"another training writes to .*: wait for it"), RunFolder(tmp_path).held():
        pass
    process.kill()
    process.join()
    with RunFolder(tmp_path).held():
        pass


def test_a_run_is_uploaded_without_its_checkpoints(tmp_path, monkeypatch):
    calls = []
    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(
            run_folder.HfApi, name, lambda self, *args, _name=name, **options: calls.append((_name, args, options))
        )
    RunFolder(tmp_path).upload("you/model")
    (made, _, _), (sent, _, options) = calls
    assert (made, sent, options["repo_id"], options["folder_path"]) == (
        "create_repo",
        "upload_folder",
        "you/model",
        tmp_path,
    )
    assert {"checkpoints/*", "best/*", "trackers/*"} <= set(options["ignore_patterns"])


def test_metrics_after_the_checkpoint_are_dropped(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin(make_settings(tmp_path), [], processes=1)
    for step in (1, 2, 3):
        folder.append({"step": step, "loss": 1.0})
    folder.begin(make_settings(tmp_path), [{"step": 1, "loss": 1.0}], processes=1)
    folder.append({"step": 2, "loss": 0.5})
    assert [json.loads(line)["loss"] for line in (tmp_path / "metrics.jsonl").open()] == [1.0, 0.5]


def test_curves_and_pictures_can_be_looked_at(tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    folder = RunFolder(tmp_path)
    folder.draw_curves("Pre-training", [{"step": 1, "R@1": 3.0}])
    assert not list(tmp_path.iterdir())
    folder.draw_curves("Pre-training", [{"step": n, "loss": 1 / n} for n in range(1, 9)] + [{"step": 8, "R@1": 3.0}])
    folder.save_picture("epoch-0003", np.zeros((20, 30, 3), np.uint8))
    assert np.asarray(pillow.open(tmp_path / "curves.png").convert("RGB")).std() > 5
    assert pillow.open(tmp_path / "pictures" / "epoch-0003.png").size == (30, 20)


def test_a_model_takes_its_place_as_a_whole(tmp_path):
    folder = RunFolder(tmp_path)

    def write(text, fail=False):
        def save(partial):
            (partial / "config.json").write_text(text)
            if fail:
                raise OSError("disk full")
            (partial / "model.safetensors").write_text(text)

        return save

    with pytest.raises(OSError, match="disk full"):
        folder.save_model(write("first", fail=True))
    assert not (tmp_path / "config.json").exists()
    folder.save_model(write("second"))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("config.json", "model.safetensors"), "second"
    )


def test_the_environment_tells_nothing_of_its_user():
    assert set(describe_environment()) == {"command", "python", "platform", "packages", "devices", "processes", "cpus"}
