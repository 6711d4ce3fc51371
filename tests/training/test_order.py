from itertools import chain

import numpy as np
import pytest
from datasets import Dataset
from training_runs import EXTRACTOR, make_model, make_settings

from cmmixer_hf.data.prepared_clips import SourceError, load_prepared
from cmmixer_hf.training.loader import RunOrder
from cmmixer_hf.training.loop import train


def order(**changes) -> RunOrder:
    return RunOrder(**({"shard_sizes": (7, 3, 9, 6), "clips_per_batch": 3, "batches_per_step": 2, "seed": 5} | changes))


def batches(run: RunOrder, numbers: range) -> list[list[int]]:
    return [rows.tolist() for block in run.blocks(numbers) for rows in block]


@pytest.mark.parametrize("window", [0, 1, 2, 3])
def test_an_epoch_shows_no_clip_twice_and_leaves_out_less_than_a_step(window):
    run = order(shuffle_shards=window)
    for epoch in range(3):
        numbers = range(epoch * run.batches_per_epoch, (epoch + 1) * run.batches_per_epoch)
        seen = list(chain(*batches(run, numbers)))
        assert len(seen) == len(set(seen)) == 24
        assert set(seen) < set(range(25))


@pytest.mark.parametrize("window", [0, 2])
def test_processes_and_workers_share_what_one_would_see(window):
    run = order(shuffle_shards=window)
    one = batches(run, range(0, 20))
    for readers in (2, 4):
        shares = [batches(run, range(reader, 20, readers)) for reader in range(readers)]
        assert [shares[number % readers][number // readers] for number in range(20)] == one


@pytest.mark.parametrize("first", [1, 7, 8, 13])
def test_a_run_goes_on_in_the_middle_of_an_epoch(first):
    run = order(shuffle_shards=2)
    assert batches(run, range(first, 20)) == batches(run, range(20))[first:]


def test_accumulating_sees_what_two_processes_see():
    whole, halves = order(clips_per_batch=6, batches_per_step=1), order(clips_per_batch=3, batches_per_step=2)
    for step in range(8):
        first, second = batches(halves, range(2 * step, 2 * step + 2))
        assert [first + second] == batches(whole, range(step, step + 1))


def test_epochs_and_seeds_differ():
    run = order()
    epochs = [batches(run, range(epoch * 8, epoch * 8 + 8)) for epoch in range(2)]
    assert epochs[0] != epochs[1]
    assert batches(order(seed=6), range(8)) != epochs[0]
    assert batches(order(), range(8)) == epochs[0]


def test_a_reader_never_holds_more_than_its_window():
    run = RunOrder(shard_sizes=[10] * 20, clips_per_batch=5, batches_per_step=1, seed=0, shuffle_shards=5)
    shards = [set((block // 10).ravel().tolist()) for block in run.blocks(range(40))]
    assert [len(window) for window in shards] == [5, 5, 5, 5]
    assert set.union(*shards) == set(range(20))


def test_clips_of_many_shards_meet_in_a_batch():
    run = RunOrder(shard_sizes=[50] * 40, clips_per_batch=32, batches_per_step=1, seed=0)
    met = [len(np.unique(rows // 50)) for block in run.blocks(range(62)) for rows in block]
    assert min(met) > 10


def test_a_stream_is_refused_for_it_cannot_be_resumed(prepared_folder, tmp_path):
    stream = Dataset.from_list(list(load_prepared(prepared_folder))).to_iterable_dataset()
    with pytest.raises(
        SourceError, match=r"IterableDataset has no length, .* load it without streaming=True, or prepare"
    ):
        train(make_model(), stream, EXTRACTOR, make_settings(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()
