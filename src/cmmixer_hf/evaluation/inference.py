"""Prepared clips through a model, each process its share, without augmentation and without gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate.utils import send_to_device
from datasets import Dataset
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..data.batches import StackMaker, collate_clips
from ..data.prepared_clips import Row
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.losses import is_distributed
from ..progress import Progress

_MEDIA_COLUMNS = ("frames", "waveforms")
Outcome = TypeVar("Outcome")


def map_batches(
    function: Callable[[dict[str, Tensor], list[Row]], Outcome],
    model: Any,
    clips: Dataset,
    extractor: CMMixerFeatureExtractor,
    *,
    batch_size: int = 32,
    progress: bool = True,
    description: str = "evaluating",
) -> list[Outcome]:
    """What `function` gives for each batch of prepared clips, in order, each clip once; the model is [`evaluating`].

    Under `torch.distributed` every process works on one run of consecutive clips, and all of them get all results;
    shares may differ by a clip, for nothing is padded.

    Args:
        function: from `pixel_values` and `audio_values` on the model's device, and the clips' rows without their media,
            to something that can be pickled: CPU tensors, lists.
        model: what it calls.
        clips: map-style dataset of prepared clips, such as [`load_prepared`] returns.
        extractor: makes the stacks.
        batch_size: clips at a time.
        progress: show a bar, in the first process.
        description: what the bar says.

    Raises:
        ValueError: there are no clips.
    """
    if not len(clips):
        raise ValueError("there are no clips to evaluate")
    share = process_share(len(clips))
    loader: DataLoader = DataLoader(Subset(clips, share), batch_size=batch_size, collate_fn=_collate)
    make_stacks = StackMaker(extractor)
    hidden = not progress or share.start > 0
    with evaluating(model):
        results = [
            function(make_stacks(send_to_device(batch, model.device)), rows)
            for batch, rows in Progress(loader, desc=description, unit="batch", disable=hidden)
        ]
    return gather_results(results)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients inside; the mode of before afterwards.

    >>> model = nn.Dropout()
    >>> with evaluating(model):
    ...     model(torch.ones(3)).tolist(), model.training
    ([1.0, 1.0, 1.0], False)
    >>> model.training
    True
    """
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _collate(rows: list[Row]) -> tuple[dict[str, Any], list[Row]]:
    facts: list[Row] = [{name: value for name, value in row.items() if name not in _MEDIA_COLUMNS} for row in rows]
    return collate_clips(rows), facts


def process_share(count: int) -> range:
    """Consecutive places of this process among `count`."""
    if not is_distributed():
        return range(count)
    rank, processes = dist.get_rank(), dist.get_world_size()
    return range(rank * count // processes, (rank + 1) * count // processes)


def gather_results(results: list[Outcome]) -> list[Outcome]:
    """Results of all processes, in the order of their shares."""
    if not is_distributed():
        return results
    shares: list[list[Outcome]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(shares, results)
    return [result for share in shares for result in share]
