import json
import time
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from training_runs import make_settings, untimed

from cmmixer_hf.training.loader import RunOrder
from cmmixer_hf.training.log import TIMINGS, TrainingDivergedError, TrainingLog
from cmmixer_hf.training.run_folder import RunFolder


class Bar(SimpleNamespace):
    """What a bar was told."""

    def update(self, steps: int = 1) -> None:
        self.n += steps

    def set_postfix(self, shown: dict, refresh: bool) -> None:
        self.shown = shown


@pytest.fixture
def make_log(tmp_path):
    def make(**changes) -> TrainingLog:
        return TrainingLog(
            Accelerator(cpu=True),
            RunFolder(tmp_path),
            make_settings(tmp_path, **({"logging_steps": 2} | changes)),
            order=RunOrder(shard_sizes=[40], clips_per_batch=10, batches_per_step=1, seed=0),
            bar=Bar(n=0),
        )

    return make


def take(log: TrainingLog, *losses: float, rate: float = 0.1, norm: float = 1.0) -> None:
    for loss in losses:
        log.add({"loss": torch.tensor(loss), "video_loss": torch.tensor(loss / 4)})
    log.finish_step(rate, torch.tensor(norm))


def test_entries_are_means_over_batches_and_steps(make_log, tmp_path):
    log = make_log()
    take(log, 1.0, 3.0, norm=5.0)
    take(log, 4.0, 8.0, rate=0.2, norm=7.0)
    take(log, 1.0)
    (entry,) = log.history
    timings = {name: entry.pop(name) for name in TIMINGS}
    expected = {"loss": 4.0, "video_loss": 1.0, "gradient_norm": 6.0}
    assert entry == {"step": 2, "epoch": 0.5, "learning_rate": 0.2, **expected}
    assert timings["samples_per_second"] > 0
    assert 0 <= timings["waiting"] < 1
    assert timings["memory_gb"] > 0.05
    log.flush()
    log.flush()
    assert [line["step"] for line in map(json.loads, (tmp_path / "metrics.jsonl").open())] == [2, 3]
    assert log.bar.n == 3
    assert log.bar.shown["loss"] == "1"


def test_the_bar_tells_of_waiting(make_log):
    log = make_log()
    for _ in log.timed([1, 2]):
        take(log, 1.0)
    assert "waiting for clips" not in log.bar.shown
    for _ in log.timed(torch.rand(3000, 3000).sum() for _ in range(2)):
        take(log, 1.0)
    assert log.bar.shown["waiting for clips"].endswith("%")


def test_it_goes_on_from_its_state(make_log):
    whole, first = make_log(), make_log()
    for step in range(3):
        take(whole, float(step))
        take(first, float(step))
    second = make_log()
    second.load_state_dict(first.state_dict())
    take(whole, 9.0)
    take(second, 9.0)
    assert untimed(whole.history) == untimed(second.history)
    assert second.bar.n == 4


def test_steps_before_a_checkpoint_are_not_in_the_speed_after_it(make_log):
    first, second = make_log(logging_steps=4), make_log(logging_steps=4)
    for _ in range(3):
        take(first, 1.0)
    second.load_state_dict(first.state_dict())
    time.sleep(0.5)
    take(second, 1.0)
    assert second.history[0]["samples_per_second"] <= 10 / 0.5


def test_a_step_that_fp16_left_out_has_no_norm(make_log):
    log = make_log()
    take(log, 1.0, norm=float("inf"))
    take(log, 1.0, norm=3.0)
    assert log.history[0]["gradient_norm"] == 3.0


def test_divergence_names_the_first_bad_step(make_log):
    log = make_log(logging_steps=3)
    take(log, 1.0, rate=0.1)
    take(log, float("inf"), rate=0.2)
    with pytest.raises(TrainingDivergedError, match=r"the loss is inf at step 2, learning rate 2.00e-01: try"):
        take(log, float("nan"), rate=0.3)


def test_no_state_is_given_after_divergence(make_log):
    log = make_log(logging_steps=10)
    take(log, 1.0)
    log.state_dict()
    take(log, float("nan"))
    with pytest.raises(TrainingDivergedError, match="the loss is nan at step 2"):
        log.state_dict()


def test_evaluation_is_not_counted_as_training(make_log):
    log = make_log(logging_steps=1)
    with log.untimed():
        time.sleep(1.0)
    take(log, 1.0)
    assert log.history[0]["samples_per_second"] > 10 / 1.0


def test_a_loss_far_above_the_first_one_is_divergence(make_log):
    log = make_log(divergence_factor=5.0)
    take(log, 0.1)
    take(log, 0.1)
    take(log, 4.9)
    take(log, 4.9)  # five times 1, for a small loss may well rise
    take(log, 6.0)
    with pytest.raises(TrainingDivergedError, match=r"the loss is 6 at step 6.* after 0.1 at the start"):
        take(log, 6.0)
