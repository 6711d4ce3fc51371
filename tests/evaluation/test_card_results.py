"""Both forms of an evaluation become the same table and the same metadata."""

import pytest
import torch
from huggingface_hub import ModelCardData
from huggingface_hub.repocard_data import model_index_to_eval_results
from torch.nn.functional import normalize

from cmmixer_hf.evaluation.results import model_index, read_scores, results_table
from cmmixer_hf.evaluation.retrieval import DIRECTIONS, ClipEmbeddings, evaluate_retrieval

LISTED = {
    "scores": [
        {"metric": "R@1", "value": 11.5, "interval": [10.0, 13.04], "chance": 0.05, "direction": "video_to_audio"},
        {"metric": "top1_accuracy", "value": 85.0, "spread": 5.0, "folds": [80.0, 90.0]},
    ]
}


def test_scores_of_evaluate_retrieval_are_all_there():
    video, audio = normalize(torch.randn(2, 12, 2, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    evaluation = evaluate_retrieval(ClipEmbeddings(video, audio))
    scores = read_scores(evaluation)
    assert [score.value for score in scores] == [value for name in DIRECTIONS for value in evaluation[name].values()]
    assert [score.chance for score in scores] == 2 * list(evaluation["chance"].values())
    table = results_table(scores)
    assert table.splitlines()[0] == "|  | R@1 | R@5 | R@10 | median rank |"
    assert table.count("by chance") == 2
    assert all(f"{value:.1f}" in table for name in evaluation for value in evaluation[name].values())


def test_listed_scores_have_intervals_and_spreads():
    table = results_table(read_scores(LISTED)).splitlines()
    assert table[2] == "| video → music | 11.5 [10.0, 13.0] |  |"
    assert table[3] == "| by chance | 0.1 |  |"
    assert table[4] == "| score |  | 85.0 ± 5.0 |"


def test_nested_scores_may_have_intervals():
    nested = {"strict": {"video_to_audio": {"R@1": {"value": 11.5, "low": 10.0, "high": 13.04}}}}
    (score,) = read_scores(nested)
    assert (str(score), score.of) == ("11.5 [10.0, 13.0]", "video → music")


def test_something_else_is_refused():
    with pytest.raises(ValueError, match=r"video_to_audio/R@1 must be a number .*, got 'high'"):
        read_scores({"video_to_audio": {"R@1": "high"}})


def test_the_library_reads_the_metadata_back():
    results = model_index(read_scores(LISTED), task="retrieval", dataset="My clips", split="test")
    data = ModelCardData(model_name="model", eval_results=results).to_dict()
    name, read = model_index_to_eval_results(data["model-index"])
    assert (name, read) == ("model", results)
    assert {result.dataset_type for result in read} == {"my-clips"}
    assert [result.metric_value for result in read] == [11.5, 85.0]
