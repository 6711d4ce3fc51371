"""Tables in the documents are those that their commands render from the recorded results."""

import itertools
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "benchmarks" / "results"
sys.path.insert(0, str(ROOT / "benchmarks"))
import flexible_queries  # noqa: E402
import recipe  # noqa: E402
import render  # noqa: E402
import search  # noqa: E402
import training  # noqa: E402
import transfer  # noqa: E402
from arms import ARMS  # noqa: E402

MAIN_ARMS = ("scratch", "contrastive", "solo-cutmix", "contrastive-drop")
README = " ".join((ROOT / "README.md").read_text().split())
EXAMPLES = (ROOT / "examples" / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()


def test_the_comparison_is_what_render_makes_of_the_recorded_cells(tmp_path):
    for path in (RECORDED / "compare").glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    render.main(tmp_path)
    assert (tmp_path / "table.md").read_text() == (RECORDED / "compare" / "table.md").read_text()


def test_the_readme_of_the_examples_shows_what_its_command_gives():
    results = [
        result
        for result in render.read_results(RECORDED / "compare")
        if (result["budget"], result["pairs"]) == (1, 2000) and result["seed"] < 3 and result["arm"] in ARMS
    ]
    assert len(results) == 3 * len(ARMS)
    assert render.arm_table(results) in EXAMPLES
    assert render.claim_table(results) in EXAMPLES


def test_the_arms_that_matter_most_have_five_seeds_at_three_budgets_and_two_numbers_of_pairs():
    results = [result for result in render.read_results(RECORDED / "compare") if result["arm"] in ARMS]
    assert render.grid_table(results) in EXAMPLES
    for arm, budget, pairs in itertools.product(MAIN_ARMS, (0.5, 1, 2), (500, 2000)):
        own = [r for r in results if (r["arm"], r["budget"], r["pairs"]) == (arm, budget, pairs)]
        assert {result["seed"] for result in own} >= {0, 1, 2, 3, 4}


def test_what_the_readme_says_of_pretraining_is_recorded():
    results = [r for r in render.read_results(RECORDED / "compare") if (r["budget"], r["pairs"]) == (8, 2000)]
    without, mixed = (
        render.show([render.both_ways(r, "R@10") for r in results if r["arm"] == arm])
        for arm in ("scratch", "solo-cutmix")
    )
    gains, costs = (render.differences(results, "solo-cutmix", arm) for arm in ("scratch", "contrastive"))
    assert (len(gains), render.verdict(gains), render.verdict(costs)) == (4, "yes", "not shown")
    assert f"rises from {without} to {mixed}, paired by seed by {render.show(gains)} (four seeds)" in README
    assert f"it stands at {render.show(costs)}." in README
    text = " ".join(EXAMPLES.split())
    assert "by {:.1f}, {:.1f}, {:.1f} and {:.1f}, seed by seed".format(*gains) in text
    losses = [-value for value in costs[:3]]
    assert "ahead by {:.1f}, {:.1f} and {:.1f} in three seeds and behind by {:.1f}".format(*losses, costs[3]) in text


def test_the_recipe_is_what_the_recorded_cells_say():
    results = [result for result in render.read_results(RECORDED / "compare") if result["pairs"] == 2000]
    at_two = [result for result in results if result["budget"] == 2]
    assert recipe.table(at_two) in BENCHMARKS
    assert recipe.pretraining_table(results) in BENCHMARKS
    before, after = (
        render.show([render.both_ways(r, "R@10") for r in at_two if r["arm"] == arm])
        for arm in ("contrastive", "together")
    )
    gains = render.differences([r for r in at_two if r["seed"] < 3], "together", "contrastive")
    assert f"from {before} to {after}, paired by seed by {render.show(gains)}" in README


def test_every_cell_says_what_it_cost_and_how_it_was_made():
    for result in render.read_results(RECORDED / "compare"):
        assert {"seed", "tflop", "settings"} <= set(result)
        assert {"command", "commit"} <= set(result["made_by"])


@pytest.mark.parametrize(
    "name", ["search", "flexible_queries", "flexible_queries-whole", "training-cpu", "training-cpu-compiled"]
)
def test_the_benchmarks_tables_are_the_recorded_ones(name):
    results = json.loads((RECORDED / f"{name}.json").read_text())
    tables = {
        "search": lambda: ["\n".join(search.search_table(results["search"]))],
        "flexible_queries": lambda: ["\n".join(flexible_queries.table(results["rows"]))],
        "flexible_queries-whole": lambda: ["\n".join(flexible_queries.table(results["rows"]))],
        "training-cpu": lambda: training.tables(results).split("\n\n"),
        "training-cpu-compiled": lambda: training.tables(results).split("\n\n")[:2],
    }
    for table in tables[name]():
        assert table in BENCHMARKS


def test_the_table_of_transfer_is_the_recorded_one_and_has_every_encoder():
    results = render.read_results(RECORDED / "transfer")
    assert transfer.table(results) in BENCHMARKS
    assert transfer.claim_table(results) in BENCHMARKS
    mixing = transfer.gains(results, ("solo-cutmix", 8), ("unmixed", 8), "esc10_finetuned")
    assert f"mixing is ahead of not mixing by {render.show(mixing)} points" in README
    assert f"by {render.show(mixing)} points" in BENCHMARKS
    helped = transfer.gains(results, ("solo-cutmix", 8), ("random", 1), "esc10_finetuned")
    assert (render.verdict(mixing), render.verdict(helped)) == ("yes", "not shown")
    for name in transfer.ENCODERS:
        own = [result for result in results if (result["arm"], result["budget"]) == (name, 1)]
        assert {0, 1} <= {result["seed"] for result in own}
        columns = transfer.COLUMNS if name != transfer.FLOOR else ["esc10_probe", "yardstick_probe"]
        assert all(result["accuracy"].keys() == {*columns} for result in own)


def test_esc10_from_the_demos_encoder_is_the_recorded_run():
    accuracy, _ = json.loads((RECORDED / "esc10-pretrained.json").read_text())["scores"]
    assert len(accuracy["folds"]) == 5
    (row,) = [line for line in EXAMPLES.splitlines() if line.startswith("| the same from `demo/seed-0/pretrained`")]
    assert row.endswith(f"| {accuracy['value']:.1f} ± {accuracy['spread']:.1f} |")


def test_what_dropping_tokens_gives_is_recorded():
    results = [
        result
        for result in render.read_results(RECORDED / "compare")
        if (result["budget"], result["pairs"]) == (2, 2000)
    ]
    gains = render.differences(results, "contrastive-drop", "contrastive")
    assert len(gains) >= 3
    assert f"paired by seed by {render.show(gains)} (" in " ".join(EXAMPLES.split())


def test_the_released_checkpoint_scores_what_the_documents_say():
    scores = json.loads((ROOT / "checkpoints/cmmixer-small-yardstick/evaluation.json").read_text())["scores"]
    (found,) = [s["value"] for s in scores if (s["metric"], s["direction"]) == ("R@1", "video_to_audio")]
    assert f"(R@1 {found:.0f} %" in README
    assert f"R@1 {found:.1f} % of 256 made clips" in EXAMPLES
