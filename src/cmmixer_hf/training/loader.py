"""The one loader of training: the micro-batches of a process in the run's order, clip by clip or as a stream.

Workers change neither the content nor the order of the batches, and both ways of reading give the same ones.
"""

import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..data.batches import Clips, KeptClips
from ..data.prepared_clips import Row, SourceError
from ..data.workers import end_with_parent
from .settings import TrainingSettings
from .stopping import SIGNALS

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RunOrder:
    """The micro-batches of a run, as row numbers of the clips.

    Every epoch shuffles the shards, then the rows of `shuffle_shards` neighbouring shards together, so that a reader
    holds no more than these. What is left over at the end of an epoch is too little for a step; it is left out there,
    other clips each time, so that all steps have the same size.

    Args:
        shard_sizes: clips in each shard; rows are numbered through all of them.
        clips_per_batch: clips of a micro-batch.
        batches_per_step: micro-batches of one step of the optimiser, over all processes.
        seed: of the order.
        shuffle_shards: shards whose rows are shuffled together; 0 shuffles all clips.

    >>> order = RunOrder(shard_sizes=(5, 5), clips_per_batch=2, batches_per_step=2, seed=0)
    >>> order.steps_per_epoch, order.batches_per_epoch
    (2, 4)
    >>> [rows.shape for rows in order.blocks(range(1, 8, 2))]  # what the second of two processes sees in two epochs
    [(2, 2), (2, 2)]
    """

    shard_sizes: Sequence[int]
    clips_per_batch: int
    batches_per_step: int
    seed: int
    shuffle_shards: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Whole steps that the clips are enough for."""
        return sum(self.shard_sizes) // (self.clips_per_batch * self.batches_per_step)

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches of an epoch, over all processes."""
        return self.steps_per_epoch * self.batches_per_step

    def blocks(self, numbers: range) -> Iterator[Rows]:
        """The micro-batches with these numbers, window after window, each block (micro-batches, clips)."""
        per_epoch = self.batches_per_epoch
        for epoch in range(numbers.start // per_epoch, -(-numbers.stop // per_epoch)):
            number = epoch * per_epoch
            for block in self._epoch(epoch):
                wanted = [place for place in range(len(block)) if number + place in numbers]
                number += len(block)
                if wanted:
                    yield block[wanted]

    def _epoch(self, epoch: int) -> Iterator[Rows]:
        """All micro-batches of an epoch; each block holds those that are complete with one more window."""
        left, rest = self.batches_per_epoch, np.empty(0, np.int64)
        for window in self._windows(epoch):
            rows = np.concatenate([rest, window])
            complete = min(left, len(rows) // self.clips_per_batch)
            left -= complete
            batches, rest = np.split(rows, [complete * self.clips_per_batch])
            yield batches.reshape(complete, self.clips_per_batch)

    def _windows(self, epoch: int) -> Iterator[Rows]:
        ends = np.cumsum(self.shard_sizes)
        draw = np.random.default_rng([self.seed, epoch])
        shards = draw.permutation(len(ends))
        width = self.shuffle_shards or len(shards)
        for first in range(0, len(shards), width):
            window = shards[first : first + width]
            rows = [np.arange(ends[shard] - self.shard_sizes[shard], ends[shard]) for shard in window]
            yield draw.permutation(np.concatenate(rows))


Batch = dict[str, Any]
Collate = Callable[[Sequence[Row]], Batch]
_logger = logging.getLogger(__name__)


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
        "worker_init_fn": _follow_the_parent,
    }
    if not streaming:
        return DataLoader(clips, batch_sampler=_Places(order, numbers), collate_fn=collate, **options)  # type: ignore[arg-type]
    if not order.shuffle_shards:
        raise ValueError("streaming holds a window of shards in memory: set shuffle_shards to their number, such as 16")
    return DataLoader(BatchStream(clips, order, numbers, collate), batch_size=None, **options)


def read_batches(loader: DataLoader) -> Iterator[Batch]:
    """Start to read.

    Raises:
        SourceError: there is no shared memory for the processes that read.
    """
    try:
        return iter(loader)
    except OSError as error:
        raise SourceError(
            f"there is no shared memory for {loader.num_workers} processes that read clips ({error.strerror}): make "
            "/dev/shm larger (Docker's --shm-size), or set num_workers=0"
        ) from error


def plan_order(clips: Clips, settings: TrainingSettings, processes: int) -> RunOrder:
    """The order of a run; fewer clips than a step takes make smaller batches.

    Raises:
        SourceError: not even one clip for each batch of a step, or a stream, whose clips cannot be counted.
    """
    source = clips.clips if isinstance(clips, KeptClips) else clips
    if not hasattr(source, "__len__"):
        raise SourceError(
            f"{type(source).__name__} has no length, and training shuffles numbered clips: load it without "
            "streaming=True, or prepare it once with `cmmixer prepare` (its shards can be streamed with streaming=true)"
        )
    batches_per_step = processes * settings.accumulation_steps
    wanted, most = settings.batch_size // settings.repeats, len(clips) // batches_per_step
    if not most:
        raise SourceError(f"{len(clips)} clips are too few for steps of {batches_per_step} batches: give more clips")
    if most < wanted:
        _logger.warning("%d clips make batches of %d instead of %d clips", len(clips), most, wanted)
    return RunOrder(
        shard_sizes=getattr(clips, "shard_sizes", [len(clips)]),
        clips_per_batch=min(wanted, most),
        batches_per_step=batches_per_step,
        seed=settings.seed,
        shuffle_shards=settings.shuffle_shards,
    )


def count_steps(settings: TrainingSettings, order: RunOrder) -> int:
    """Steps of the whole run."""
    return settings.max_steps or settings.epochs * order.steps_per_epoch


class BatchStream(IterableDataset):
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


def _follow_the_parent(worker: int) -> None:
    """Ctrl-C reaches every process of a terminal, SIGTERM every one of a job; the one that trains decides when to stop.

    A worker ends with the batch that it is making, when the training process asks it to, or at once where that is gone:
    torch looks at the process that forked it, which may be a server that lives on.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    end_with_parent()
