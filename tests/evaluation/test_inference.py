"""Batches, shares and modes: every clip once, in order, whatever the number of processes."""

import pytest
import torch
from datasets import Dataset
from distributed import run_in_processes
from small_models import build
from torch import nn

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data.preparation import prepare_clip
from cmmixer_hf.evaluation.inference import evaluating, map_batches
from cmmixer_hf.media.reading import Sampling

COUNTS = (5, 1)


@pytest.fixture(scope="module")
def rows(clip_files):
    sampling = Sampling(num_frames=2, shorter_side=32)
    return [prepare_clip(file, sampling) for file in clip_files]


def look_at(rows, batch_size=2):
    """Name and brightness of each clip, by batch."""

    def look(stacks, facts):
        assert stacks["pixel_values"].shape == stacks["audio_values"].shape == (len(facts), 2, 3, 32, 32)
        return [(row["clip_id"], stack.mean().item()) for row, stack in zip(facts, stacks["pixel_values"], strict=True)]

    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    return map_batches(look, build("model"), Dataset.from_list(rows), extractor, batch_size=batch_size, progress=False)


class LookInProcess:
    """At five clips, then at one, of which one process has none; picklable, for the processes."""

    def __init__(self, rows):
        self.rows = rows

    def __call__(self, rank):
        return [look_at(self.rows[:count]) for count in COUNTS]


def flat(batches):
    return [clip for batch in batches for clip in batch]


def test_batches_come_in_order_and_without_their_media(rows):
    batches = look_at(rows, batch_size=4)
    assert [len(batch) for batch in batches] == [4, 2]
    assert [name for name, _ in flat(batches)] == [row["clip_id"] for row in rows]
    extractor, clips = CMMixerFeatureExtractor(), Dataset.from_list(rows)
    seen = map_batches(lambda stacks, facts: facts, build("model"), clips, extractor, progress=False)
    assert not {"frames", "waveforms"} & set(seen[0][0])
    assert seen[0][0]["path"] == rows[0]["path"]


def test_processes_share_the_clips_and_all_get_everything_once(rows, tmp_path):
    for count, first, second in zip(COUNTS, *run_in_processes(LookInProcess(rows), tmp_path), strict=True):
        assert flat(first) == flat(second)
        assert [name for name, _ in flat(first)] == [row["clip_id"] for row in rows[:count]]
        for (_, ours), (_, alone) in zip(flat(first), flat(look_at(rows[:count])), strict=True):
            assert ours == pytest.approx(alone, abs=1e-6)


def test_no_clips_are_refused():
    with pytest.raises(ValueError, match="no clips"):
        map_batches(lambda stacks, facts: 0, build("model"), Dataset.from_list([]), CMMixerFeatureExtractor())


def test_the_mode_comes_back_even_after_an_error():
    model = nn.Linear(2, 2)
    with pytest.raises(KeyError), evaluating(model):
        assert not model(torch.ones(2)).requires_grad
        raise KeyError
    assert model.training
    model.eval()
    with evaluating(model):
        pass
    assert not model.training
