import json

import numpy as np
import pytest
from training_runs import make_settings

from cmmixer_hf.training.run_folder import RunFolder, describe_environment
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
