"""The grid that decides the paper's claims: small cells run, are kept, are taken again, and make the tables."""

import json

import pytest
import torch
from claims import ARMS, Cell, ClaimsSettings, Strangers, Unmixed, claim_rows, content, holm, load_or_run, run, tables

from cmmixer_hf.demo import model_config

SMALL = {"pairs": 4, "clips": 6, "pool": 12, "pretraining_steps": 1, "finetuning_steps": 1, "batch_size": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    output = tmp_path_factory.mktemp("claims")
    run(ClaimsSettings(output=str(output), arms=["none", "unmixed"], seeds=[0, 1], rates=[1e-3], **SMALL))
    return output


def test_each_cell_has_a_file_with_what_it_cost_and_what_needs_no_model(folder):
    names = {path.name for path in folder.glob("*.json")}
    assert names == {f"grid-{arm}-0.001-seed{seed}.json" for seed in (0, 1) for arm in ("none", "unmixed")}
    none, unmixed = (json.loads((folder / f"grid-{arm}-0.001-seed0.json").read_text()) for arm in ("none", "unmixed"))
    assert none["tflop"] < unmixed["tflop"]
    assert len(none["cues"]) == 3
    assert set(none["twins"]) == {"time", "binding", "identity", "height", "motion"}


def test_of_several_rates_an_arm_takes_the_one_that_the_search_on_other_clips_prefers(tmp_path):
    run(ClaimsSettings(output=str(tmp_path), arms=["none"], seeds=[0], rates=[1e-3, 2e-3], **SMALL))
    searched = [json.loads(path.read_text()) for path in tmp_path.glob("search-*.json")]
    assert len(searched) == 2
    (grid,) = (json.loads(path.read_text()) for path in tmp_path.glob("grid-*.json"))
    assert grid["rate"] in [cell["rate"] for cell in searched if content(cell) == max(map(content, searched))]


def test_a_grid_goes_on_and_refuses_other_sizes(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    settings = ClaimsSettings(output=str(folder), arms=["none", "unmixed"], seeds=[0, 1], rates=[1e-3], **SMALL)
    run(settings)
    assert {path: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before
    settings.pool = 13
    with pytest.raises(ValueError, match="choose another output"):
        load_or_run(Cell("none", 0, 1e-3, False), settings)


def test_tables_show_arms_claims_and_cues(folder):
    text = tables(folder)
    assert ARMS["unmixed"].about in text
    assert "masked pre-training helps, fine-tuning being equal" in text
    assert "all cues, CCA of the pairs" in text


def test_a_clear_difference_is_a_yes_and_holm_counts_all_claims():
    twins = {"identity": 0.0, "height": 0.0, "binding": 0.0}
    results = [
        {"arm": arm, "seed": seed, "R@10": base + 0.1 * seed, "twins": twins}
        for arm, base in (("unmixed", 20.0), ("none", 5.0))
        for seed in range(5)
    ]
    for result in results[:5]:
        result["R@10"] += 0.01 * result["seed"] ** 2
    (row,) = [row for row in claim_rows(results) if row.startswith("| masked pre-training helps, fine-tuning")]
    assert row.endswith(": yes |")
    assert holm({"a": 0.02, "b": 0.03}) == {"a", "b"}
    assert holm({"a": 0.03, "b": 0.04}) == set()


def test_unmixed_sees_one_modality_at_a_time_and_strangers_another_clips_sound():
    stacks = [torch.randn(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    torch.manual_seed(0)
    model, noise = Unmixed(model_config()), torch.rand(2, 64)
    own = model(*stacks, noise=noise).video_loss
    assert torch.equal(own, model(stacks[0], stacks[1].flip(0), noise=noise).video_loss)
    strangers = Strangers(model_config())
    mask = torch.zeros(2, 4, 1, 32, 32)
    heard = strangers(*stacks, noise=noise, mixing_mask=mask).audio_logits
    assert torch.equal(
        heard, super(Strangers, strangers).forward(stacks[0], stacks[1].flip(0), mask, noise).audio_logits
    )
