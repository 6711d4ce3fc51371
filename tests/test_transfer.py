"""benchmarks/transfer.py: probes and fine-tuning of a tiny grid's encoders."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import write_noise_clip

from cmmixer_hf.arms import Sizes
from cmmixer_hf.clips import ClipSpec
from cmmixer_hf.experiment import ExperimentSettings, run_experiment
from cmmixer_hf.media import Sampling
from cmmixer_hf.prepare import prepare
from cmmixer_hf.recipes import Recipe

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
TINY = Sizes(hidden_size=32, num_layers=2, num_frames=2)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("transfer")
    grid = {"output": str(folder / "grid"), "budgets": [0.004], "pairs": [24], "seeds": [0], "pool": 12}
    run_experiment(
        ExperimentSettings(**grid, arms=["random", "solo-cutmix", "cav"], difficulty=0.0, batch_size=4), TINY
    )
    specs = [
        ClipSpec(clip_id=f"{n}", track_id=f"{n}", audio=str(path), labels=("ab"[n % 2],), fold=1 + n // 4)
        for n in range(8)
        for path in [write_noise_clip(folder / f"{n}.mp4", n)]
    ]
    prepare(specs, folder / "sounds", Recipe(Sampling(num_frames=2, window_seconds=1.0)), progress=False)
    line = ["--grid", str(folder / "grid"), "--clips", str(folder / "sounds"), "--seeds", "0", "--epochs", "1"]
    line += ["--budget", "0.004", "--pairs", "24", "--arms", "random", "solo-cutmix", "cav"]
    line += ["--finetuned", "random", "solo-cutmix", "--output", str(folder / "transfer.json")]
    command = [sys.executable, str(BENCHMARKS / "transfer.py"), *line]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**json.loads((folder / "transfer.json").read_text()), "printed": done.stdout}


def test_every_encoder_is_probed_and_the_chosen_ones_are_fine_tuned(results):
    accuracy = results["accuracy"]
    assert set(accuracy) == {"floor", "random", "solo-cutmix", "cav"}
    assert all({"esc10_probe", "yardstick_probe"} <= set(scores) for scores in accuracy.values())
    assert {name for name, scores in accuracy.items() if "esc10_finetuned" in scores} == {"random", "solo-cutmix"}
    assert all(0 <= value[0] <= 100 for scores in accuracy.values() for value in scores.values())


def test_the_table_has_a_row_an_encoder(results):
    rows = [line for line in results["printed"].splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(results["accuracy"])


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from transfer import Task, probe

    places = list(range(200))
    task = Task({"labels": [["a" if n % 2 else "b"] for n in places]}, "audio", [(0, places[:100], places[100:])])
    noise = np.random.default_rng(0).standard_normal((200, 4))
    planted = noise + 5 * (np.arange(200) % 2)[:, None]
    assert probe(planted, task) == 100
    assert probe(noise, task) < 70
