"""benchmarks/transfer.py: probes and fine-tuning of a tiny grid's encoders."""

import copy
import sys
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from arms import ARMS, Sizes
from conftest import write_noise_clip
from datasets import Dataset

from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.demo.world import World, make_row
from cmmixer_hf.media.reading import Sampling
from cmmixer_hf.training.loop import train

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import transfer
from transfer import Task, TransferSettings, probe

TINY = Sizes(hidden_size=32, num_layers=2, num_frames=2)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict]:
    """One tiny cell of each kind, by arm."""
    folder = tmp_path_factory.mktemp("transfer")
    specs = [
        ClipSpec(clip_id=f"{n}", track_id=f"{n}", audio=str(path), labels=("ab"[n % 2],), fold=1 + n // 4)
        for n in range(8)
        for path in [write_noise_clip(folder / f"{n}.mp4", n)]
    ]
    prepare(specs, folder / "sounds", Recipe(Sampling(num_frames=2, window_seconds=1.0)), progress=False)
    settings = TransferSettings(
        output=str(folder / "grid"), budgets=[0.001], pairs=[24], seeds=[0], pool=12, epochs=1,
        arms=[transfer.FLOOR, "random", "solo-cutmix", "av-mae"], clips=str(folder / "sounds"),
        results=str(folder / "results"),
    )  # fmt: skip
    return {result["arm"]: result for result in transfer.run(settings, TINY)}


def test_every_encoder_is_probed_and_fine_tuned(results):
    assert set(results) == {"floor", "random", "solo-cutmix", "av-mae"}
    probes = {"esc10_probe", "yardstick_probe"}
    assert set(results["floor"]["accuracy"]) == probes
    for name in ("random", "solo-cutmix", "av-mae"):
        assert set(results[name]["accuracy"]) == set(transfer.COLUMNS)
    assert all(0 <= value <= 100 for result in results.values() for value in result["accuracy"].values())


def test_a_result_says_what_was_spent_and_how_it_was_made(results):
    assert results["random"]["tflop"] == {"pretraining": 0.0}
    assert 0 < results["solo-cutmix"]["tflop"]["pretraining"] <= 0.0005
    assert {"command", "commit"} <= set(results["av-mae"]["made_by"])


def test_fine_tuning_moves_the_tower_of_the_task_and_nothing_of_the_retriever_given():
    torch.manual_seed(0)
    retriever = ARMS["random"].retrieve(TINY, None)
    before = copy.deepcopy(retriever.state_dict())
    world = World(seed=0, sampling=TINY.sampling, difficulty=0.0)
    rows = [make_row(world, index) for index in range(8)]
    task = Task(Dataset.from_list(rows), "video", [(0, [*range(6)], [6, 7])])
    moved = {}

    def keep(model, *args, **kwargs):
        train(model, *args, **kwargs)
        moved.update(model.retriever.state_dict())

    with mock.patch.object(transfer, "train", keep):
        settings = replace(transfer.FINETUNING, epochs=1, warmup_epochs=0.0, batch_size=3)
        transfer.finetune(retriever, task, TINY.extractor(), settings)
    assert all(torch.equal(before[name], value) for name, value in retriever.state_dict().items())
    different = {name.split(".")[0] for name in before if not torch.equal(before[name], moved[name])}
    assert different == {"video_model"}


def test_the_table_has_a_row_an_encoder(results):
    rows = transfer.table([*results.values()]).splitlines()
    assert len(rows) == 2 + len(results)


def test_claims_are_differences_paired_by_seed():
    def cell(arm: str, budget: float, seed: int, value: float) -> dict:
        return {"arm": arm, "budget": budget, "seed": seed, "accuracy": dict.fromkeys(transfer.COLUMNS, value)}

    means = {("solo-cutmix", 8): (70.0, 80.0, 90.5), ("random", 1): (65.0, 75.0, 85.0), ("unmixed", 8): (1.0,)}
    results = [cell(*key, seed, value) for key, values in means.items() for seed, value in enumerate(values)]
    rows = transfer.claim_table(results).splitlines()[2:]
    (row,) = [line for line in rows if line.startswith("| Solo with CutMix helps, four")]
    assert row.endswith("| 5.2 ± 0.7: yes |")
    assert row.count("yes") == len(transfer.COLUMNS)
    (row,) = [line for line in rows if line.startswith("| mixing helps that")]
    assert row.endswith("| 69.0: one seed |")


def test_a_probe_finds_what_is_there_and_nothing_where_nothing_is():
    places = list(range(200))
    task = Task({"labels": [["a" if n % 2 else "b"] for n in places]}, "audio", [(0, places[:100], places[100:])])
    noise = np.random.default_rng(0).standard_normal((200, 4))
    planted = noise + 5 * (np.arange(200) % 2)[:, None]
    assert probe(planted, task) == 100
    assert probe(noise, task) < 70
