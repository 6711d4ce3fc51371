import torch
from torch import nn

from cmmixer_hf.search.folding import fold


def test_sections_of_a_file_fold_under_the_best_and_items_without_one_stand_alone():
    places = [("a", 0.0, 9.0, "5:1"), ("b", 0.0, 9.0, "6:1"), ("a", 9.0, 18.0, "5:1"), *[(None, None, None, None)] * 2]
    segments = nn.functional.normalize(torch.randn(5, 2, 8), dim=-1)
    assert fold(places, torch.tensor([0.2, 0.5, 0.9, 0.1, 0.0]), segments) == [[2, 0], [1], [3], [4]]


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
    assert fold(places, torch.tensor([0.9, 0.9, 0.5, 0.8]), segments) == [[0, 1], [3], [2]]


def test_all_sections_of_a_copy_fold_with_those_of_the_file():
    places = [("a", 0.0, 9.0, "5:1"), ("a", 9.0, 18.0, "5:1"), ("copy", 0.0, 9.0, "5:2"), ("copy", 9.0, 18.0, "5:2")]
    segments = nn.functional.normalize(torch.randn(2, 2, 8), dim=-1).repeat(2, 1, 1)
    assert fold(places, torch.tensor([0.9, 0.8, 0.9, 0.8]), segments) == [[0, 2, 1, 3]]
