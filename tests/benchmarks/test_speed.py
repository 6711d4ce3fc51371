"""Benchmarks of speed run from end to end on little, and what they say beside the times is right."""

import sys

import esc10_floor
import latency
import library
import loop
import numpy as np
import pytest
import recall
import search
import size
import torch

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.demo import write_library
from cmmixer_hf.search import LibraryFile


def test_every_way_to_search_is_timed_and_the_exact_ones_find_all(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "AT_ONCE", 3)
    rows = search.measure_search(400, 32, 3, tmp_path)
    recalls = {row["contender"]: row["recall"] for row in rows}
    assert min(row["ms"] for row in rows) > 0
    for exact in (search.RAW, search.BY_HAND.format("flat"), "`RetrievalIndex`, flat", search.FILTERED):
        assert recalls[exact] >= 90  # of the ten best by segments, 200 of 400 candidates
    assert recalls["matrix product of all segments"] == 100
    assert recalls["matrix product of pooled vectors"] < 100
    assert len(search.search_table(rows)) == 2 + len(rows)
    assert "| 400 |" in search.storage_table(rows)[-1]


def test_a_library_is_embedded_in_every_way_and_float32_is_the_unit(tmp_path):
    files = [LibraryFile(str(path)) for path in write_library(tmp_path, 3, seed=library.SEED, progress=False)]
    rows = library.rows_of("small", library.measure(recall.RecallSettings.model, files, 1), trained=True)
    assert [row["way"] for row in rows] == list(library.WAYS)
    assert rows[0]["ratio"] == {"video": 1, "audio": 1}
    assert all(row["cosine"] == pytest.approx(1, abs=0.01) for row in rows)
    assert library.library_table(rows)[2].startswith("| small | float32, one file after the other |")


def test_an_open_searcher_is_timed_on_a_small_clip_and_a_large_one(monkeypatch, capsys):
    for name, value in (("SECONDS", 1.0), ("WIDTH", 160), ("HEIGHT", 90)):
        monkeypatch.setattr(latency, name, value)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # which would hold for all tests after this one
    monkeypatch.setattr(sys, "argv", ["latency.py", "--repeats", "1"])
    latency.main()
    small, large = capsys.readouterr().out.splitlines()[2:]
    assert small.startswith("| clip-101-00000.mp4 | 4 |")
    assert large.startswith("| 720p.mp4 | 1 |")


def test_the_loop_is_timed_in_both_ways_while_another_program_holds_a_core():
    rows = loop.measure(loop.LoopSettings(clips=32, epochs=2, rounds=1, busy=True))
    assert [(row["stage"], row["way"]) for row in rows] == [(stage, way) for stage in loop.STAGES for way in loop.WAYS]
    assert min(row["samples_per_second"] for row in rows) > 0
    assert [line.split(" | ")[3] for line in loop.loop_table(rows)[2::2]] == ["1.00"] * 3


def test_the_papers_sizes_are_counted():
    solo, *_, tower = size.rows()[2:]
    assert solo.startswith("| solo, mask 0.75 |")
    assert tower.startswith("| retrieval tower, no mask |")


def test_the_floor_of_sound_classification_tells_high_tones_from_low_ones(monkeypatch):
    times, extractor = np.arange(16000) / 16000, CMMixerFeatureExtractor()
    tones = [0.5 * np.sin(2 * np.pi * pitch * times) for pitch in (200, 210, 220, 3000, 3100, 3200)]
    rows = [{"audio_values": (32768 * tone).astype(np.int16)} for tone in tones]
    monkeypatch.setattr(esc10_floor, "unpack_waveforms", lambda row: torch.from_numpy(row["audio_values"]))
    features = esc10_floor.band_statistics(rows, extractor)
    assert esc10_floor.linear_accuracy(features, np.repeat([0, 1], 3), [0, 1, 3, 4], [2, 5]) == 100
