"""The JSON file that cards are rendered from."""

import json

import pytest

from cmmixer_hf.evaluation import results
from cmmixer_hf.evaluation.results import EvaluationResult, Score, package_versions, scores_table

SCORES = [
    Score("R@1", 11.5, interval=(10.0, 13.0), chance=0.05, direction="video_to_audio", positives="strict"),
    Score("top1_accuracy", 85.0, spread=5.0, folds=(80.0, 90.0)),
]


@pytest.fixture
def result():
    return EvaluationResult(
        task="retrieval",
        model={"name": "runs/retrieval", "architecture": "CMMixerForRetrieval", "parameters": 7},
        data={"name": "shards", "split": None, "clips": 3, "digest": "abc"},
        protocol={"seed": 0},
        scores=SCORES,
        versions=package_versions(),
    )


def test_what_is_written_is_read(result, tmp_path):
    result.save(tmp_path / "new" / "evaluation.json")
    assert EvaluationResult.load(tmp_path / "new" / "evaluation.json") == result


def test_the_file_has_the_documented_keys_and_no_others(result, tmp_path):
    result.save(tmp_path / "evaluation.json")
    content = json.loads((tmp_path / "evaluation.json").read_text())
    documented = {line.split("`")[1] for line in results.__doc__.splitlines() if line.startswith("| `")}
    assert set(content) == documented
    assert content["schema"] == 1
    assert set(content["scores"][1]) == {"metric", "value", "spread", "folds"}
    assert all(f"`{key}`" in results.__doc__ for score in content["scores"] for key in score)


@pytest.mark.parametrize("content", ['{"schema": 2}', "[]", "{}"])
def test_another_file_is_refused(content, tmp_path):
    (tmp_path / "other.json").write_text(content)
    with pytest.raises(ValueError, match=r"other\.json is no evaluation of schema 1"):
        EvaluationResult.load(tmp_path / "other.json")


def test_the_table_says_every_score_with_what_it_has():
    header, retrieval, folds = scores_table(SCORES).splitlines()
    assert header.split() == ["score", "chance"]
    assert retrieval.split() == ["video_to_audio", "strict", "R@1", "11.50", "[10.00", "…", "13.00]", "0.05"]
    assert folds.split() == ["top1_accuracy", "85.00", "±", "5.00"]


def test_versions_name_what_makes_the_numbers():
    assert {"python", "torch", "transformers", "cmmixer_hf"} <= set(package_versions())
