"""Tables in the documents are those that their commands render from the recorded results."""

import json
from pathlib import Path

import claims
import decoded_share
import library
import loop
import numpy as np
import peers
import places
import pytest
import recall
import search
import training

from cmmixer_hf.evaluation.free_cues import FreeCue
from cmmixer_hf.search import open_embedder

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "benchmarks" / "results"
README = (ROOT / "README.md").read_text()
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text()
DEMOS = sorted(RECORDED.glob("demo-seed-*.json"))
TWINS = ("time", "binding", "identity", "height", "motion")


def demo_rows(path: Path) -> list[str]:
    """One seed's rows of the table in the README, from what `make demo` left in `results.json`."""
    results, seed = json.loads(path.read_text()), path.stem[-1]
    rows = []
    for name, scores in results["scores"].items():
        there, back = scores["video_to_audio"], scores["audio_to_video"]
        found = [there["R@1"], there["R@10"], there["median_rank"], back["R@1"], back["R@10"]]
        twins = results["twins"].get(name, {})
        cells = [
            f"{twins[kind]['value']:.0f} [{', '.join(f'{e:.0f}' for e in twins[kind]['interval'])}]" for kind in twins
        ]
        rows.append([f"{name}, seed {seed}", *(f"{value:.1f}" for value in found), *(cells or [""] * len(TWINS))])
    return [f"| {' | '.join(row)} |" for row in rows]


@pytest.mark.parametrize("path", DEMOS)
def test_the_demos_table_is_what_its_runs_gave(path):
    assert "\n".join(demo_rows(path)) in README


@pytest.mark.parametrize("path", DEMOS)
def test_the_demo_learned_content_that_no_cue_gives_away(path):
    results = json.loads(path.read_text())
    trained, _, *without = (FreeCue("", **scores).recall_at_10 for scores in map(both_ways, results["scores"].values()))
    cue, cca, linear = without
    assert max(cue, cca) <= 2 * results["scores"]["trained"]["chance"]["R@10"]
    assert trained >= 5 * max(cue, cca)
    assert trained > linear
    understood = [kind for kind in TWINS if results["twins"]["trained"][kind]["interval"][0] > 60]
    assert understood == ["time", "binding", "identity", "height"]


def test_what_the_demo_gave_on_two_cores_is_recorded():
    results = json.loads((RECORDED / "demo-two-cores.json").read_text())
    there, back = both_ways(results["scores"]["trained"]).values()
    assert f"on two cores seed 0 had R@10 {there['R@10']:.1f} / {back['R@10']:.1f}." in README
    assert 6 < float(results["facts"]["minutes"]) < 7
    assert "a little over six on\ntwo" in README


def test_what_pretraining_adds_to_the_demo_is_what_both_runs_gave():
    found = []
    for name in ("demo-without-pretraining-seed-0", "demo-seed-0"):
        scores = json.loads((RECORDED / f"{name}.json").read_text())["scores"]["trained"]
        found.append(" / ".join(f"{scores[way]['R@10']:.1f}" for way in ("video_to_audio", "audio_to_video")))
    assert "R@10 {} instead of {}".format(*found) in README


def both_ways(scores: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What a row says of either direction."""
    return {direction: scores[direction] for direction in ("video_to_audio", "audio_to_video")}


@pytest.mark.parametrize("name", ["library", "search", "training-cpu", "training-cpu-compiled"])
def test_the_benchmarks_tables_are_the_recorded_ones(name):
    results = json.loads((RECORDED / f"{name}.json").read_text())
    tables = {
        "library": lambda: ["\n".join(library.library_table(results))],
        "search": lambda: ["\n".join(search.search_table(results["search"]))],
        "training-cpu": lambda: training.tables(results).split("\n\n"),
        "training-cpu-compiled": lambda: training.tables(results).split("\n\n")[:2],
    }
    for table in tables[name]():
        assert table in BENCHMARKS


def test_the_tables_of_claims_are_the_recorded_ones():
    *one_rate, _ = claims.tables(RECORDED / "claims").split("\n\n")  # the cues are those of the same pools
    for table in [*claims.tables(RECORDED / "claims-own-rates").split("\n\n"), *one_rate]:
        assert table in BENCHMARKS


def test_every_arm_was_run_with_the_rate_that_its_search_chose():
    cells = recorded_cells("claims-own-rates")
    searched = [json.loads(path.read_text()) for path in (RECORDED / "claims-own-rates").glob("search-*.json")]
    for arm in claims.ARMS:
        own = [cell for cell in searched if cell["arm"] == arm]
        assert sorted(cell["rate"] for cell in own) == [5e-4, 1e-3, 2e-3]
        best = max(own, key=claims.content)["rate"]
        assert [cells[arm, seed]["rate"] for seed in range(5)] == [best] * 5
        assert (best == 2e-3) == (arm not in ("none", "contrastive"))
    found = {(cell["arm"], cell["rate"]): claims.content(cell) for cell in searched}
    behind = [round(found["cutmix", rate] - found["pixel", rate]) for rate in (1e-3, 2e-3)]
    assert "Pixel Mixup is {} points below CutMix at 1e-3, and {} at 2e-3".format(*behind) in " ".join(
        BENCHMARKS.split()
    )


def recorded_cells(folder: str) -> dict[tuple[str, int], dict]:
    """The cells of a recorded grid, by arm and seed."""
    cells = (json.loads(path.read_text()) for path in (RECORDED / folder).glob("grid-*.json"))
    return {(cell["arm"], cell["seed"]): cell for cell in cells}


def test_what_is_said_of_the_claims_is_what_the_cells_say():
    cells, one_rate = (list(recorded_cells(folder).values()) for folder in ("claims-own-rates", "claims"))
    readme, benchmarks = (" ".join(text.split()) for text in (README, BENCHMARKS))
    means = {arm: np.mean([cell["R@10"] for cell in cells if cell["arm"] == arm]) for arm in claims.ARMS}
    words = (
        "R@10 of 300 is {cutmix:.0f} with CutMix, {pixel:.0f} with Pixel Mixup and {unmixed:.0f} with nothing mixed, "
        "{contrastive:.0f} with all that compute in fine-tuning, {none:.0f} without it"
    )
    assert words.format(**means) in readme
    own, strangers, pixel = (
        claims.differences(cells, better, other, claims.content)
        for better, other in (("cutmix", "unmixed"), ("cutmix-strangers", "unmixed"), ("cutmix", "pixel"))
    )
    assert f"adds {claims.show(own)} points of the content twins over five seeds" in readme
    assert f"another clip's sound {claims.show(strangers)}, and CutMix is {claims.show(pixel)} above" in readme
    assert f"four of five seeds ({claims.show(own)} in content), with another clip's sound" in benchmarks
    assert f"sound {claims.show(strangers)}; above Pixel Mixup it is by {claims.show(pixel)}." in benchmarks
    assert [sum(gain > 0 for gain in own), len(own)] == [4, 5]
    at_one_rate = claims.differences(one_rate, "cutmix", "unmixed", claims.content)
    assert f"it added {claims.show(at_one_rate)}," in readme
    assert f"There mixing adds {claims.show(at_one_rate)} points of content, with each of five seeds" in benchmarks
    assert len(at_one_rate) == 5
    assert min(at_one_rate) > 0
    for folder, gains, kept in (("claims-own-rates", own, "not shown"), ("claims", at_one_rate, "yes")):
        row = f"| mixing adds to masked pre-training | {claims.show(gains)}: {kept} |"
        assert row in claims.tables(RECORDED / folder)


def test_how_the_grids_size_was_chosen_is_recorded():
    assert f"R@10 was {recorded_cells('claims-pilot')['cutmix', 77]['R@10']:.1f}" in BENCHMARKS
    best = max(cell["R@10"] for cell in recorded_cells("claims-short").values())
    assert f"no arm of three seeds passed {best:.1f}" in BENCHMARKS


def test_the_tables_of_places_of_recall_and_of_decoded_shares_are_the_recorded_ones():
    assert places.table(RECORDED / "places") in BENCHMARKS
    assert recall.table(json.loads((RECORDED / "recall.json").read_text())) in BENCHMARKS
    assert decoded_share.table(json.loads((RECORDED / "decoded-share.json").read_text())) in BENCHMARKS


@pytest.mark.parametrize("name", ["loop", "loop-busy"])
def test_the_tables_of_the_loop_are_the_recorded_ones_and_lanes_are_never_slower(name):
    rows = json.loads((RECORDED / f"{name}.json").read_text())
    assert "\n".join(loop.loop_table(rows)) in BENCHMARKS
    for whole, lanes in zip(rows[::2], rows[1::2], strict=True):
        assert lanes["samples_per_second"] > whole["samples_per_second"]
        assert lanes["cpu_ms"] < 0.85 * whole["cpu_ms"]


def test_of_decoding_less_less_is_learned_with_each_seed():
    results = json.loads((RECORDED / "decoded-share.json").read_text())
    for seed in (0, 1):
        own = sorted((result for result in results if result["seed"] == seed), key=lambda result: -result["share"])
        for measured in decoded_share.MEASURED:
            explained = [result[measured] for result in own]
            assert explained == sorted(explained, reverse=True)


def test_embeddings_were_measured_with_the_checkpoint_that_is_released():
    identity = open_embedder(str(ROOT / recall.RecallSettings.model), "cpu").identity
    rows = json.loads((RECORDED / "library.json").read_text())
    assert {row["identity"] for row in rows if "recall" in row} == {identity}
    assert json.loads((RECORDED / "recall.json").read_text())["identity"] == identity


def test_what_is_said_of_the_released_checkpoint_is_what_its_files_say():
    folder, readme = ROOT / recall.RecallSettings.model, " ".join(README.split())
    scores = json.loads((folder / "evaluation.json").read_text())["scores"]
    found = {(one["metric"], one["direction"], one.get("positives", "")): round(one["value"]) for one in scores}
    there, back = "video_to_audio", "audio_to_video"
    thumbnails = "no model, thumbnails, CCA of 1000 pairs"
    assert f"first in {found['R@1', there, '']} % (sound for pictures) and {found['R@1', back, '']} %" in readme
    assert f"thumbnails does in {found['R@1', there, thumbnails]} %" in readme
    twins = [one["value"] for one in scores if one["direction"] in [f"{kind} twins" for kind in TWINS[:-1]]]
    assert f"identity and height in {int(min(twins))} to {max(twins):.0f} %, motion not at all" in readme
    low, high = next(one["interval"] for one in scores if one["direction"] == "motion twins")
    assert low < 50 < high
    harder = {metric: [found[metric, way, "harder clips"] for way in (there, back)] for metric in ("R@1", "R@10")}
    assert len(set(harder["R@1"])) == 1
    linear = found["R@10", there, f"harder clips, {thumbnails}"]
    words = "R@1 is {} both ways, R@10 {} and {} (chance 3.3, thumbnails {})"
    assert words.format(harder["R@1"][0], *harder["R@10"], linear) in readme
    paper, everywhere = json.loads((folder / "separation.json").read_text()).values()

    def shares(of: dict[str, float], region: str) -> list[str]:
        return [f"{of[f'{modality}_{region}']:.0f}".replace("-", "−") for modality in ("video", "audio")]

    assert "it explains {} % (frames) and {} % (sound)".format(*shares(paper, "hidden")) in readme
    assert "does not train: {} % and {} %".format(*shares(paper, "covered")) in readme
    words = "it is {} % and {} %, and {} % and {} % of the hidden ones"
    assert words.format(*shares(everywhere, "covered"), *shares(everywhere, "hidden")) in readme
    frames, sound = shares(paper, "hidden_within_patches")
    assert f"explains {sound} % of hidden sound, and of hidden frames nothing ({frames} %;" in readme


def test_the_rows_of_classification_are_the_recorded_ones():
    results = [json.loads(path.read_text()) for path in sorted((RECORDED / "peers").glob("*.json"))]
    assert peers.table(results) in BENCHMARKS
    accuracy = {result["arm"]: result["scores"][0]["value"] for result in results}
    floor = accuracy.pop("mel statistics=logistic regression")
    assert max(accuracy.values()) < floor
