"""The one loader of training: the micro-batches of a process in the run's order, clip by clip or as a stream.

Workers change neither the content nor the order of the batches, and both ways of reading give the same ones.
"""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from .data import Clips
from .order import Rows, RunOrder
from .prepared_clips import Row, SourceError
from .settings import TrainingSettings
from .stopping import SIGNALS

Batch = dict[str, Any]
Collate = Callable[[Sequence[Row]], Batch]
logger = logging.getLogger(__name__)


def make_loader(
    clips: Clips,
    order: RunOrder,
    numbers: range,
    *,
    collate: Collate,
    num_workers: int = 0,
    streaming: bool = False,
    pin_memory: bool = False,
) -> DataLoader:
    """Batches of the micro-batches with these `numbers`, one after the other.

    Args:
        clips: the rows that the order counts.
        order: which of them make which micro-batch.
        numbers: those of this process, from where the run stands: `range(first + rank, last, processes)`.
        collate: rows → batch; it must be picklable where there are workers.
        num_workers: processes that read and decode; 0 reads in this one.
        streaming: read the shards from front to back, each row group once a window of `order.shuffle_shards` shards,
            and hold the window's clips in memory. For slow disks, for networks, and for shards whose row groups hold
            many clips; otherwise a clip is read when its turn comes.
        pin_memory: for a faster way to a GPU.

    Raises:
        ValueError: `streaming` without a window, which would hold all clips.
    """
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "pin_memory": pin_memory,
        "worker_init_fn": _leave_signals_to_the_parent,
    }
    if not streaming:
        return DataLoader(clips, batch_sampler=_Places(order, numbers), collate_fn=collate, **options)  # type: ignore[arg-type]
    if not order.shuffle_shards:
        raise ValueError("streaming holds a window of shards in memory: set shuffle_shards to their number, such as 16")
    return DataLoader(ClipStream(clips, order, numbers, collate), batch_size=None, **options)


def plan_order(clips: Clips, settings: TrainingSettings, processes: int) -> RunOrder:
    """The order of a run; fewer clips than a step takes make smaller batches.

    Raises:
        SourceError: not even one clip for each batch of a step.
    """
    batches_per_step = processes * settings.accumulation_steps
    wanted, most = settings.batch_size // settings.repeats, len(clips) // batches_per_step
    if not most:
        raise SourceError(f"{len(clips)} clips are too few for steps of {batches_per_step} batches: give more clips")
    if most < wanted:
        logger.warning("%d clips make batches of %d instead of %d clips", len(clips), most, wanted)
    return RunOrder(
        shard_sizes=getattr(clips, "shard_sizes", [len(clips)]),
        clips_per_batch=min(wanted, most),
        batches_per_step=batches_per_step,
        seed=settings.seed,
        shuffle_shards=settings.shuffle_shards,
    )


class ClipStream(IterableDataset):
    """The batches of [`make_loader`], read window by window; the next window is read while this one is used."""

    def __init__(self, clips: Any, order: RunOrder, numbers: range, collate: Collate):
        self.clips = clips
        self.order = order
        self.numbers = numbers
        self.collate = collate

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        blocks = self.order.blocks(self.numbers[worker.id :: worker.num_workers] if worker else self.numbers)
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self._read, next(blocks, None))
            while batches := coming.result():
                coming = reader.submit(self._read, next(blocks, None))
                yield from map(self.collate, batches)

    def _read(self, block: Rows | None) -> list[list[Row]]:
        """The rows of each micro-batch of a block."""
        if block is None:
            return []
        rows = iter(self.clips.__getitems__(block.ravel().tolist()))
        return [[next(rows) for _ in batch] for batch in block]


class _Places:
    """Lists of places for a loader that asks for clips by their place."""

    def __init__(self, order: RunOrder, numbers: range):
        self.order = order
        self.numbers = numbers

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for block in self.order.blocks(self.numbers) for rows in block)

    def __len__(self) -> int:
        return len(self.numbers)


def _leave_signals_to_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, SIGTERM every one of a job; the one that trains decides when to stop.

    A worker ends with the batch that it is making, when the training process asks it to or is gone.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
