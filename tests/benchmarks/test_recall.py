"""What precision and candidates cost: all candidates in full precision lose nothing, few lose something."""

from pathlib import Path

from recall import CANDIDATES, PRECISIONS, RecallSettings, measure, table

CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "cmmixer-small-yardstick"


def test_all_candidates_find_all_and_ten_candidates_miss_some():
    results = measure(RecallSettings(model=str(CHECKPOINT), items=60, queries=12))
    assert list(results["recall"]) == list(PRECISIONS)
    exact = results["recall"]["float32"]
    assert exact[1000] == exact[100] == 100
    assert 0 < exact[10] < 100
    assert all(50 < results["recall"][precision][1000] <= 100 for precision in PRECISIONS)
    assert all(len(line.split("|")) == len(CANDIDATES) + 3 for line in table(results).splitlines())
