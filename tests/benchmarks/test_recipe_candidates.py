"""benchmarks/recipe.py: each candidate is what its row says, and all of them run."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from arms import ARMS, Sizes
from experiment import ExperimentSettings, run_experiment
from torch.nn.functional import logsigmoid, normalize

from cmmixer_hf import CMMixerConfig
from cmmixer_hf.models.losses import info_nce
from cmmixer_hf.training.settings import TrainingSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import recipe

PRESET = Path(__file__).parents[2] / "examples" / "configs" / "retrieval_fast.yaml"
TINY = Sizes(hidden_size=32, num_layers=2, num_frames=2)


@pytest.fixture
def stacks() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn(4, 2, 3, 32, 32) for name in ("pixel_values", "audio_values")}


def test_every_candidate_runs_and_has_a_row(tmp_path):
    names = [recipe.FINETUNING, recipe.PRETRAINING, *recipe.CANDIDATES]
    grid = {"budgets": [0.001], "pairs": [8], "seeds": [0], "pool": 6, "batch_size": 4, "difficulty": 0.0}
    settings = ExperimentSettings(output=str(tmp_path), arms=names, **grid)
    results = run_experiment(settings, TINY, ARMS | recipe.CANDIDATES)
    table = recipe.table(results)
    assert all(f"| {arm.about} |" in table for arm in recipe.CANDIDATES.values())
    assert table.count("one seed") == len(recipe.CANDIDATES)
    batches = {result["arm"]: result["settings"]["batch_size"] for result in results}
    assert batches["contrastive"] == 4
    assert batches["batch-128"] == 128


def test_the_preset_is_the_candidate_that_won():
    arm = recipe.CANDIDATES["together"]
    settings, config = replace(ExperimentSettings(), **arm.changes), arm.retrieve(TINY, None).config
    preset = yaml.safe_load(PRESET.read_text())
    assert TrainingSettings().batch_size == settings.batch_size
    assert preset["learning_rate"] == settings.finetuning_rate == 20 * preset["min_learning_rate"]
    usual = TINY.cmmixer(temperature=CMMixerConfig().temperature).to_dict()
    changed = {name: value for name, value in config.to_dict().items() if value != usual.get(name)}
    assert json.loads(preset["model_config"]) == changed


def test_differences_are_paired_by_seed_and_by_baseline():
    def cell(arm: str, seed: int, score: float) -> dict:
        scores = {direction: {"R@10": score} for direction in ("video_to_audio", "audio_to_video")}
        return {"arm": arm, "seed": seed, "scores": scores}

    pairs = {"contrastive": (10.0, 20.0, 30.0), "sigmoid": (13.0, 24.0, 33.5), "solo-cutmix": (0.0, 0.0, 0.0)}
    results = [cell(arm, seed, score) for arm, scores in pairs.items() for seed, score in enumerate(scores)]
    (row,) = [line for line in recipe.table(results).splitlines() if "sigmoid" in line]
    assert row == "| sigmoid loss | 3 | 23.5 ± 25.5 | 3.5 ± 1.2 | yes |"


def test_pretraining_is_compared_at_equal_finetuning_and_at_equal_compute():
    def cell(arm: str, budget: float, seed: int, score: float) -> dict:
        scores = {direction: {"R@10": score} for direction in ("video_to_audio", "audio_to_video")}
        return {"arm": arm, "seed": seed, "budget": budget, "scores": scores}

    means = {("together", 1.0): 20, ("together", 2.0): 40, ("pretrained-together", 2.0): 30}
    results = [cell(*key, seed, mean + seed) for key, mean in means.items() for seed in range(3)]
    *_, row = recipe.pretraining_table(results).splitlines()
    assert row.endswith("| 10.0 ± 0.0: yes | -10.0 ± 0.0: no, the reverse |")
    assert row.startswith("| 2 | 21.0 ± 2.5 | 31.0 ± 2.5 | 41.0 ± 2.5 |")


def test_the_sigmoid_loss_is_siglips(stacks):
    model = recipe.SigmoidForRetrieval(TINY.cmmixer()).eval()
    output = model(**stacks)
    video, audio = output.video_segment_embeds.flatten(0, 1), output.audio_segment_embeds.flatten(0, 1)
    losses = [
        -logsigmoid((1 if i == j else -1) * (10 * (video[i] @ audio[j]) - 10)) for i in range(8) for j in range(8)
    ]
    torch.testing.assert_close(output.loss, torch.stack(losses).sum() / 8)


def test_averaged_weights_are_taken_when_training_ends(stacks):
    model = recipe.Averaged(TINY.cmmixer()).train()
    weight = model.video_model.layernorm.weight
    for value in (1.0, 2.0):
        weight.data.fill_(value)
        model(**stacks)
    assert weight.mean().item() == 2
    model.eval()
    torch.testing.assert_close(weight.mean().item(), 1.02)


def test_what_is_hidden_of_a_modality_counts_where_the_encoder_sees(stacks):
    model = recipe.HiddenModality(TINY.cmmixer())
    everything_is_video = torch.ones(4, 2, 1, 32, 32)
    output = model(**stacks, mixing_mask=everything_is_video)
    plain = model.reconstruction_loss(output.video_logits, stacks["pixel_values"], output.mask)
    torch.testing.assert_close(output.video_loss, plain)
    all_patches = model.reconstruction_loss(output.audio_logits, stacks["audio_values"], torch.ones_like(output.mask))
    torch.testing.assert_close(output.audio_loss, all_patches)


def test_the_contrastive_term_pools_the_visible_tokens_of_each_segment(stacks, monkeypatch):
    model = recipe.ContrastiveToo(TINY.cmmixer())
    noise = torch.rand(4, 32)
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: noise)
    segments = model._segments(stacks["pixel_values"])
    ranks = recipe.even_noise(noise, 2)
    encoded = model.cmmixer(stacks["pixel_values"], noise=ranks, mask_ratio=0.5).last_hidden_state[:, 1:]
    kept = ranks.argsort(dim=1, stable=True)[:, :16]
    for clip in range(4):
        for segment in range(2):
            own = encoded[clip][(kept[clip] // 16) == segment]
            assert len(own) == 8
            torch.testing.assert_close(segments[clip, segment], normalize(own.mean(0), dim=0))


def test_the_second_term_compares_whole_clips(stacks):
    torch.manual_seed(0)
    both = recipe.PooledToo(TINY.cmmixer()).eval()
    output = both(**stacks)
    segments = info_nce(output.video_segment_embeds, output.audio_segment_embeds, 0.1)
    whole = info_nce(output.video_embeds[:, None], output.audio_embeds[:, None], 0.1)
    torch.testing.assert_close(output.loss, segments + whole)


def test_the_table_of_recorded_results_is_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["recipe.py", "--table", str(tmp_path), "--pairs", "8"])
    scores = {direction: {"R@10": 5.0} for direction in ("video_to_audio", "audio_to_video")}
    (tmp_path / "contrastive-2T-8-seed0.json").write_text(
        json.dumps({"arm": "contrastive", "seed": 0, "scores": scores, "budget": 2.0, "pairs": 8})
    )
    recipe.main()
    assert "| **no pre-training, the whole budget in fine-tuning** | 1 | 5.0 | | |" in capsys.readouterr().out
