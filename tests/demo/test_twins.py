"""Twins differ from their clip in one factor, and in that one always."""

from dataclasses import replace

import numpy as np
import pytest

from cmmixer_hf.demo.rendering import render_frames
from cmmixer_hf.demo.scenes import RISING, make_scene
from cmmixer_hf.demo.twins import CHANGES, render_twin

TIMES = np.float32([1.0, 3.0, 5.0, 7.0])


def scene(seed: int):
    return make_scene(seed, duration=8.0, difficulty=1.0)


@pytest.mark.parametrize("kind", CHANGES)
def test_a_twin_looks_like_its_clip_but_not_quite(kind):
    for seed in range(8):
        own = render_frames(scene(seed), times=TIMES, size=48).astype(float)
        twin, other = (
            render_twin(scene(one), kind, TIMES, size=48, rng=np.random.default_rng(0)).astype(float)
            for one in (seed, seed + 100)
        )
        assert 0 < np.abs(twin - own).mean() < np.abs(other - own).mean()


@pytest.mark.parametrize("kind", CHANGES)
def test_only_the_named_factor_changes(kind):
    parts = scene(3).parts
    changed = CHANGES[kind](parts, np.random.default_rng(0))
    factor = {"binding": "identity", "identity": "identity", "height": "heights", "motion": "sway_rate"}[kind]
    for before, after in zip(parts, changed, strict=True):
        restored = replace(after, **{factor: getattr(before, factor)})
        assert all(np.array_equal(value, getattr(restored, name)) for name, value in vars(before).items())
    assert any(
        not np.array_equal(getattr(before, factor), getattr(after, factor))
        for before, after in zip(parts, changed, strict=True)
    )


def test_binding_keeps_the_shapes_and_identity_brings_a_new_one():
    parts = scene(5).parts
    shapes = [part.identity for part in parts]
    assert [part.identity for part in CHANGES["binding"](parts, np.random.default_rng(0))] == shapes[::-1]
    replaced = [part.identity for part in CHANGES["identity"](parts, np.random.default_rng(0))]
    assert sum(before != after for before, after in zip(shapes, replaced, strict=True)) == 1
    assert len(set(replaced) - set(shapes)) == 1
    assert sorted(name in RISING for name in replaced) == [False, True]


def test_time_keeps_the_frames_and_moves_each():
    own = render_frames(scene(2), times=TIMES, size=32)
    twin = render_twin(scene(2), "time", TIMES, size=32, rng=np.random.default_rng(1))
    assert sorted(frame.tobytes() for frame in own) == sorted(frame.tobytes() for frame in twin)
    assert all((before != after).any() for before, after in zip(own, twin, strict=True))


@pytest.mark.parametrize(
    ("kind", "difficulty", "times", "message"),
    [("colour", 1.0, TIMES, "colour"), ("time", 1.0, TIMES[:1], "2 instants")],
)
def test_impossible_twins_are_refused(kind, difficulty, times, message):
    with pytest.raises(ValueError, match=message):
        render_twin(make_scene(0, difficulty=difficulty), kind, times, size=32, rng=np.random.default_rng(0))
