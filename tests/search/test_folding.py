import pyarrow as pa
import torch
from torch import nn

from cmmixer_hf.search import folding
from cmmixer_hf.search.folding import fold
from cmmixer_hf.search.index_rows import Candidates, number_files


def groups(places, scores, segments, k: int = 10) -> list[list[int]]:
    files = number_files(pa.array([path for path, *_ in places], pa.string()))
    return fold(Candidates(segments, files, places.__getitem__, str), torch.tensor(scores), k)


def test_sections_of_a_file_fold_under_the_best_and_items_without_one_stand_alone():
    places = [("a", 0.0, 9.0, "5:1"), ("b", 0.0, 9.0, "6:1"), ("a", 9.0, 18.0, "5:1"), *[(None, None, None, None)] * 2]
    segments = nn.functional.normalize(torch.randn(5, 2, 8), dim=-1)
    assert groups(places, [0.2, 0.5, 0.9, 0.1, 0.0], segments) == [[2, 0], [1], [3], [4]]


def test_copies_fold_and_files_that_only_look_alike_do_not():
    places = [
        ("a", 0.0, 9.0, "5:1"),
        ("copy", 0.0, 9.0, "5:7"),
        ("other", 0.0, 9.0, "5:1"),
        ("longer", 0.0, 9.0, "8:1"),
    ]
    segments = nn.functional.normalize(torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    segments[1] = segments[0] + 1e-6
    segments[3] = segments[0]  # of another size: not the same bytes
    assert groups(places, [0.9, 0.9, 0.5, 0.8], segments) == [[0, 1], [3], [2]]


def test_all_sections_of_a_copy_fold_with_those_of_the_file():
    places = [("a", 0.0, 9.0, "5:1"), ("a", 9.0, 18.0, "5:1"), ("copy", 0.0, 9.0, "5:2"), ("copy", 9.0, 18.0, "5:2")]
    segments = nn.functional.normalize(torch.randn(2, 2, 8), dim=-1).repeat(2, 1, 1)
    assert groups(places, [0.9, 0.8, 0.9, 0.8], segments) == [[0, 2, 1, 3]]


def test_many_candidates_fold_alike_however_copies_are_looked_for(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    segments = nn.functional.normalize(torch.randn(60, 2, 8, generator=generator), dim=-1)
    segments[40:50] = segments[:10] + 1e-6
    places = [(f"file {row % 50}", 0.0, 9.0, "5:1") for row in range(60)]
    scores = (segments[:, 0, 0] + 0.01 * torch.rand(60, generator=generator)).tolist()
    found = groups(places, scores, segments)
    assert any(len(rows) > 1 for rows in found)
    monkeypatch.setattr(folding, "MOST_COMPARISONS", 0)
    assert groups(places, scores, segments) == found == groups(places, scores, segments, k=60)[:10]
