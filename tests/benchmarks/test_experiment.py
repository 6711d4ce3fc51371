"""The comparison of arms: counted compute, shared pre-training, resumable results."""

import itertools
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from arms import ARMS, Sizes
from datasets import load_from_disk
from experiment import HELD_OUT_SEED, ExperimentSettings, cells, count_flops, read_results, run_experiment
from twins import ESC10_CLASSES

from cmmixer_hf.media.reading import write_clip

ROOT = Path(__file__).parents[2]
TINY = Sizes(hidden_size=32, num_layers=2, num_frames=2)


def settings(folder: Path, **changed) -> ExperimentSettings:
    few = {"output": str(folder), "budgets": [0.001], "pairs": [8], "seeds": [0], "pool": 6, "batch_size": 4}
    return ExperimentSettings(**(few | changed))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> list[dict]:
    return run_experiment(settings(tmp_path_factory.mktemp("grid"), difficulty=1.0), TINY)


def test_every_arm_has_a_result_that_says_what_it_is(results):
    assert {result["arm"] for result in results} == set(ARMS)
    for result in results:
        assert {"video_to_audio", "audio_to_video", "chance"} <= set(result["scores"])
        assert all(0 <= share <= 100 for share in result["twins"].values())
        assert result["made_by"]["torch"]


def test_no_arm_spends_more_than_its_budget_by_more_than_a_step(results):
    for result in results:
        arm, spent = ARMS[result["arm"]], result["tflop"]
        assert (spent["pretraining"] > 0) == (arm.pretrain is not None)
        assert (spent["finetuning"] > 0) == arm.finetune
        assert spent["pretraining"] <= arm.share * result["budget"] * 1.5
        assert sum(spent.values()) <= result["budget"] * 1.5


def test_arms_without_pretraining_differ_in_what_they_may_spend(results):
    spent = {result["arm"]: result["tflop"]["finetuning"] for result in results}
    assert spent["random"] == 0 < spent["scratch"] < spent["contrastive"]


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    chosen = settings(tmp_path, arms=["random", "scratch"])
    run_experiment(chosen, TINY)
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.json")}
    gone = tmp_path / "random-0.001T-8-seed0.json"
    before = json.loads(gone.read_text())
    gone.unlink()
    (again,) = [result for result in run_experiment(chosen, TINY) if result["arm"] == "random"]
    assert again["scores"] == before["scores"]
    other = "scratch-0.001T-8-seed0.json"
    assert (tmp_path / other).stat().st_mtime_ns == first[other]


def test_shards_of_a_grid_share_no_cell_and_lose_none(tmp_path):
    grid = list(cells(settings(tmp_path, seeds=[0, 1], pairs=[8, 16])))
    assert len(grid) == len(set(grid)) == 4 * len(ARMS)
    for part in (0, 1):
        run_experiment(settings(tmp_path, arms=["random"], seeds=[0, 1], shard=f"{part}/2"), TINY)
        assert len(read_results(tmp_path)) == part + 1


def test_a_result_of_other_settings_is_not_taken_for_one_of_these(tmp_path):
    run_experiment(settings(tmp_path, arms=["random"], difficulty=0.0), TINY)
    with pytest.raises(ValueError, match=r"random-.*seed0.json was made with difficulty=0.0, not 0.5: choose another"):
        run_experiment(settings(tmp_path, arms=["random"], difficulty=0.5), TINY)


def test_clips_of_another_world_are_not_taken(tmp_path):
    for difficulty, arm in ((0.0, "random"), (1.0, "scratch")):
        run_experiment(settings(tmp_path, arms=[arm], difficulty=difficulty), TINY)
    easy, hard = (load_from_disk(str(path)) for path in tmp_path.glob("work/*/world-0-8"))
    assert easy[0]["frames"] != hard[0]["frames"]


def test_recordings_sound_in_both_worlds_from_other_folds(tmp_path):
    folder = tmp_path / "esc10"
    (folder / "audio").mkdir(parents=True)
    lines = ["file,label,fold"]
    for number, (label, fold) in enumerate(itertools.product(ESC10_CLASSES, (1, 5))):
        write_tone(folder / "audio" / f"{number}.mp4", frequency=200 if fold == 1 else 1000)
        lines.append(f"audio/{number}.mp4,{label},{fold}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    run_experiment(settings(tmp_path, arms=["random"], esc10=str(folder), difficulty=0.0), TINY)
    training, held_out = (
        load_from_disk(str(next(tmp_path.glob(f"work/*/world-{seed}-{count}"))))
        for seed, count in ((0, 8), (HELD_OUT_SEED, 6))
    )
    assert 150 < loudest_frequency(training) < 600 < loudest_frequency(held_out)


def write_tone(path: Path, frequency: float) -> None:
    """A second of a tone."""
    sound = 0.5 * np.sin(2 * np.pi * frequency * np.arange(16000) / 16000)
    write_clip(path, np.zeros((10, 32, 32, 3), np.uint8), sound.astype(np.float32), fps=10, sampling_rate=16000)


def loudest_frequency(clips) -> float:
    """Of all windows of the clips, Hz; a note plays its recording faster, the higher it is."""
    waveforms = np.concatenate([np.frombuffer(row["waveforms"], np.int16) for row in clips]).reshape(-1, 16000)
    spectrum = np.abs(np.fft.rfft(waveforms)).mean(0)
    return float(spectrum.argmax())


def test_an_unknown_arm_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"unknown arms \['sole'\]"):
        list(cells(settings(tmp_path, arms=["sole"])))


def test_flops_are_those_of_one_sample_whatever_the_batch(results, tmp_path):
    from datasets import Dataset

    from cmmixer_hf.demo.world import World, make_row

    rows = Dataset.from_list([make_row(World(seed=0, sampling=TINY.sampling), index) for index in range(2)])
    arm = ARMS["duet-cutmix"]
    solo, duet = (
        count_flops(ARMS[name].pretrain(TINY), rows, arm.extractor(TINY)) for name in ("solo-cutmix", "duet-cutmix")
    )
    assert solo < duet < 2 * solo


def test_results_become_tables_and_a_plot(results, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib")
    for result in results:
        (tmp_path / f"{result['arm']}-seed0.json").write_text(json.dumps(result))
    monkeypatch.setattr(sys, "argv", ["render.py", str(tmp_path)])
    runpy.run_path(str(ROOT / "benchmarks" / "render.py"), run_name="__main__")
    table = (tmp_path / "table.md").read_text()
    assert all(f"| {arm.about} |" in table for arm in ARMS.values())
    assert "one seed" in table
    assert (tmp_path / "score_against_compute.png").read_bytes().startswith(b"\x89PNG")
