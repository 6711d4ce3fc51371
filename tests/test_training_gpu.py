"""Training on a GPU: every precision learns like the CPU does, and goes on after it was killed. Skipped without one."""

import os
import signal

import pytest
import torch
from distributed import run_alone
from training_runs import final_state, run_training, train_until_killed

if not torch.cuda.is_available():
    pytest.skip("training on a GPU needs one", allow_module_level=True)

RUN = {"batch_size": 2, "accumulation_steps": 1, "save_steps": 2}
KILL = "cmmixer_hf.training.model_inputs:ModelInputs.__call__:8"


def on_gpu(function, *arguments):
    os.environ.pop("ACCELERATE_USE_CPU")
    function(*arguments)


def train(clips, folder, changes):
    run_training(clips, folder, **changes)


def losses(folder) -> list[float]:
    return [entry["loss"] for entry in final_state(folder)[2][1]]


@pytest.mark.parametrize("changes", [{}, {"mixed_precision": "bf16"}, {"mixed_precision": "fp16"}, {"compile": True}])
def test_a_gpu_learns_like_a_cpu_and_goes_on(changes, prepared_folder, tmp_path):
    run_training(prepared_folder, tmp_path / "cpu", **RUN)
    options = RUN | changes
    assert run_alone(on_gpu, train, prepared_folder, tmp_path / "whole", options) == 0
    folder = tmp_path / "killed"
    assert run_alone(on_gpu, train_until_killed, prepared_folder, folder, KILL, options) == -signal.SIGKILL
    assert run_alone(on_gpu, train, prepared_folder, folder, options) == 0
    assert losses(folder) == pytest.approx(losses(tmp_path / "whole"), rel=1e-3)
    assert losses(folder) == pytest.approx(losses(tmp_path / "cpu"), rel=0.1)  # a GPU draws other random numbers
