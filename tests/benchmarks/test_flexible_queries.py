"""benchmarks/flexible_queries.py on embeddings in which a factor was planted, and on some without any."""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "flexible_queries.py"))
measure, levels = BENCHMARK["measure"], BENCHMARK["levels"]


def clips(planted: float, count: int = 90, kinds: int = 3) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Pictures and sounds that share what is their own, and a direction of their kind."""
    generator = torch.Generator().manual_seed(0)
    level = np.arange(count) % kinds
    shared = torch.randn(count, 1, 32, generator=generator) + planted * torch.eye(32)[level][:, None]
    videos, sounds = (
        nn.functional.normalize(shared + 0.5 * torch.randn(count, 4, 32, generator=generator), dim=-1) for _ in range(2)
    )
    return videos, sounds, level


def rows(planted: float) -> dict[str, dict[str, float]]:
    effects = measure(*clips(planted), np.random.default_rng(0))
    return {name: effect.row(np.random.default_rng(0)) for name, effect in effects.items()}


def test_a_factor_that_is_there_moves_as_it_should():
    found = rows(planted=4.0)
    assert found["added"]["low"] > 0
    assert found["added"]["up"] > 50 > found["added"]["down"]
    assert found["subtracted"]["high"] < 0
    assert found["subtracted"]["down"] > 50 > found["subtracted"]["up"]
    assert found["added, without it"]["change"] < found["added"]["change"] / 2


def test_a_factor_that_is_not_there_does_not_move():
    for row in rows(planted=0.0).values():
        assert abs(row["change"]) < 8
        assert row["before"] == pytest.approx(100 / 3, abs=8)


def test_levels():
    assert levels(np.array([5, 0, 0, 2])).tolist() == [2, 0, 0, 1]
    assert np.bincount(levels(np.random.default_rng(0).uniform(size=90))).tolist() == [30, 30, 30]
