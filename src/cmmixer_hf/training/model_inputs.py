"""From clips to the arguments of a model's forward, whose signature decides what is read, decoded and made."""

import inspect
from functools import partial
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..data.batches import COLUMNS, KeptClips, LabelNames, StackMaker, collate_clips
from ..data.prepared_clips import SourceError
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .loader import Batch
from .settings import TrainingSettings


def without_adapters(model: Any) -> PreTrainedModel:
    """The model inside one that peft's `get_peft_model` has wrapped, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def forward_names(model: Any) -> set[str]:
    """Names of the arguments that a model's forward takes."""
    return set(inspect.signature(without_adapters(model).forward).parameters)


class ModelInputs:
    """A batch of clips → the arguments of a model's forward, as far as it takes them.

    `collate` makes the batch in a worker of the loader, with the columns and labels that are needed; calling the object
    makes the arguments on the device where the batch lies.

    Args:
        model: its forward may take `pixel_values`, `audio_values`, `track_id` and `labels`; classes are those of its
            configuration.
        extractor: makes the stacks.
        settings: augmentation, samples that each clip becomes, and whether clips are kept.
    """

    def __init__(self, model: PreTrainedModel, extractor: CMMixerFeatureExtractor, settings: TrainingSettings):
        names = forward_names(model)
        self.columns = [column for name, column in COLUMNS.items() if name in names]
        self.labels = LabelNames.of(model.config) if "labels" in names else None
        self.collate = partial(collate_clips, columns=self.columns, labels=self.labels)
        self.unchanged = [name for name in ("track_id", "labels") if name in names]
        self.repeats = settings.repeats
        self.make_stacks = StackMaker(extractor, augment=settings.augment, repeats=settings.repeats)
        self.keep = settings.keep_spectrograms

    def check_labels(self, clips: Any) -> None:
        """Look at the labels of all clips before the first step, where the model has classes.

        Raises:
            SourceError: a clip has none, too many, or one that the model does not know.
        """
        clips = clips.clips if isinstance(clips, KeptClips) else clips
        if self.labels and hasattr(clips, "column_names"):
            for name, labels in zip(clips["clip_id"], clips["labels"], strict=True):
                self.labels.truths({"clip_id": name, "labels": labels})

    def needed(self, clips: Any) -> Any:
        """The same clips without the columns that no batch needs, which are then not read; kept, where that is set.

        Raises:
            SourceError: they are kept already, with spectrograms of another extractor.
        """
        if isinstance(clips, KeptClips):
            if clips.extractor.to_dict() != self.make_stacks.extractor.to_dict():
                raise SourceError("clips are kept with spectrograms of another extractor: keep them with this one")
            return clips
        if hasattr(clips, "select_columns"):
            read = {"clip_id", "track_id", "num_segments", *self.columns, *self.unchanged}
            read |= {"frame_codec", "frame_shape"} if "frames" in self.columns else set()
            clips = clips.select_columns([name for name in clips.column_names if name in read])
        return KeptClips(clips, self.make_stacks.extractor) if self.keep and "waveforms" in self.columns else clips

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """The arguments; the samples of one clip lie next to one another."""
        unchanged = {name: batch[name].repeat_interleave(self.repeats, 0) for name in self.unchanged}
        return self.make_stacks(batch) | unchanged
