"""The training benchmark runs, counts what is known, and the table in its README is what it renders."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("benchmark_training", BENCHMARKS / "training.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_quick_run_measures_every_contestant(benchmark, tmp_path):
    output = tmp_path / "quick.json"
    command = [sys.executable, BENCHMARKS / "training.py", "--quick", "--rounds", "1", "--output", output]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    results = json.loads(output.read_text())
    assert run.stdout.strip() == benchmark.tables(results)
    kinds = {(step["model"], step["precision"], step["mode"]) for step in results["steps"]}
    names = benchmark.PRETRAINING + benchmark.FINETUNING
    assert kinds == {(name, precision, "eager") for name in names for precision in ("fp32", "bf16")}
    assert all(len(step["seconds"]) == 1 and step["seconds"][0] > 0 for step in results["steps"])
    assert all(step["gigabytes"] > 0 for step in results["steps"])
    flops = {step["model"]: step["gflop"] for step in results["steps"]}
    whole, half = (flops[name] for name in benchmark.FINETUNING)
    assert half < 0.6 * whole


def test_flops_are_those_of_one_clip_whatever_the_batch(benchmark):
    for name in benchmark.PRETRAINING + benchmark.FINETUNING:
        one, three = (
            benchmark.make_contestant(name, benchmark.BenchmarkSettings(quick=True, batch_size=size)) for size in (1, 3)
        )
        assert benchmark.count_flops(one) == benchmark.count_flops(three) > 0
