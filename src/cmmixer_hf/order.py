"""Which clips a run sees when: arithmetic on a seed and the sizes of the shards, the same in every process.

A run is a row of numbered *micro-batches*. Process p of P takes those whose number leaves p when divided by P, and each
step of the optimiser P · accumulation of them, so that one process which accumulates n micro-batches sees what n
processes see that do not. Where a run stands is one integer, the number of the next micro-batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
