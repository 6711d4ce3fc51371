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
    *own_rates, _ = claims.tables(RECORDED / "claims-own-rates").split("\n\n")  # the cues are those of the same pools
    for table in [*claims.tables(RECORDED / "claims").split("\n\n"), *own_rates]:
        assert table in BENCHMARKS


def test_what_is_said_of_the_arms_own_rates_is_what_the_cells_say():
    cells = list(recorded_cells("claims-own-rates").values())
    searched = [json.loads(path.read_text()) for path in (RECORDED / "claims-own-rates").glob("search-*.json")]
    for arm in ("cutmix", "unmixed"):
        best = max((cell for cell in searched if cell["arm"] == arm), key=claims.content)
        assert {cell["rate"] for cell in cells if cell["arm"] == arm} == {best["rate"]} == {2e-3}
    gains = claims.differences(cells, "cutmix", "unmixed", claims.content)
    assert sum(gain > 0 for gain in gains) == 4 == len(gains) - 1
    assert f"it adds {claims.show(gains)}, with four of five seeds" in README
    assert f"mixing adds {claims.show(gains)} points in content, with four of five seeds" in BENCHMARKS


def recorded_cells(folder: str) -> dict[tuple[str, int], dict]:
    """The cells of a recorded grid, by arm and seed."""
    cells = (json.loads(path.read_text()) for path in (RECORDED / folder).glob("grid-*.json"))
    return {(cell["arm"], cell["seed"]): cell for cell in cells}


def test_what_is_said_of_the_claims_is_what_the_cells_say():
    cells = recorded_cells("claims")
    means = {
        arm: np.mean([cell["R@10"] for (name, _), cell in cells.items() if name == arm])
        for arm in ("cutmix", "unmixed", "contrastive", "none")
    }
    words = (
        "R@10 of 300 is {cutmix:.0f} with CutMix and {unmixed:.0f} with nothing mixed, {contrastive:.0f} with all that"
    )
    readme = " ".join(README.split())
    assert words.format(**means) in readme
    assert f"in fine-tuning, {means['none']:.0f} without it" in readme
    gains = claims.differences(list(cells.values()), "cutmix", "unmixed", claims.content)
    for text in (readme, " ".join(BENCHMARKS.split())):
        assert f"adds {claims.show(gains)} points" in text
    assert len(gains) == 5
    assert min(gains) > 0
    strangers = claims.differences(list(cells.values()), "cutmix-strangers", "unmixed", claims.content)
    assert f"With another clip's sound it adds nothing ({claims.show(strangers)})" in " ".join(BENCHMARKS.split())
    pixel = claims.differences(list(cells.values()), "cutmix", "pixel", claims.content)
    assert f"Pixel Mixup with every seed ({claims.show(pixel)} in content)" in " ".join(BENCHMARKS.split())
    assert min(pixel) > 0
    for other in ("unmixed", "contrastive", "none"):
        assert min(claims.differences(list(cells.values()), "cutmix", other, lambda cell: cell["R@10"])) > 0


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
