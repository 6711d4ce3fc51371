"""What the benchmarks on made clips share: clips, a short training that leaves nothing behind, results in a file."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from cmmixer_hf.demo import World, make_extractor, make_row
from cmmixer_hf.files import atomic_file
from cmmixer_hf.training import TrainingSettings, train

HELD_OUT = 1_000_000  # added to a seed: clips to score on


def make_clips(world: World, count: int) -> Dataset:
    """A world's first clips."""
    return Dataset.from_list([make_row(world, index) for index in range(count)])


def train_briefly(
    model: PreTrainedModel,
    clips: Dataset,
    steps: int,
    *,
    seed: int,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    **options: Any,
) -> None:
    """So many steps, the first tenth of them to warm up; `options` are further fields of [`TrainingSettings`]."""
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingSettings(
            output_dir=folder,
            seed=seed,
            max_steps=steps,
            warmup_epochs=0.1 * steps * batch_size / len(clips),
            batch_size=batch_size,
            learning_rate=learning_rate,
            keep_spectrograms=True,
            save_steps=0,
            **options,
        )
        train(model, clips, make_extractor(), settings, progress=False)


def read_or_measure(settings: Any, measure: Callable[[Any], Any]) -> Any:
    """The results in the file `settings.table`; or measured, and kept in `settings.output` if that is given."""
    if settings.table:
        return json.loads(Path(settings.table).read_text())
    results = measure(settings)
    if settings.output:
        with atomic_file(settings.output) as partial:
            partial.write_text(json.dumps(results, indent=1))
    return results
