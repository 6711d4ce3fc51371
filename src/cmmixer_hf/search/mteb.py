"""A retrieval model on the public board: the audio-visual tasks of `mteb`, the Massive Video Embedding Benchmark.

mteb would decode with torchcodec and hand over frames of its own choice; here its files are read undecoded and sampled
as the paper does (§3.2), by the same code as everywhere else.
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Audio, Dataset, Video
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..data.batches import SourceError
from ..data.clips import Blob, Media, local_file
from ..media.processing_cmmixer import clip_sampling
from ..media.reading import Sampling, read_clip
from .embedding import MODALITIES, Embedder

if TYPE_CHECKING:
    from mteb import TaskMetadata
    from mteb.models import ModelMeta
    from mteb.types import PromptType


Arrays = dict[str, list[np.ndarray]]


class CMMixerEncoder:
    """A [`CMMixerForRetrieval`] as `mteb.evaluate` takes models, for tasks between video and audio (extra `[mteb]`).

    An embedding is the clip's K segments side by side, (K · size): the cosine of two is then the score that Eq. 2
    trains, the mean over segments. Where a task gives picture and sound together, their segments are added and
    normalised (§5.2). Results are cached by mteb under a digest of the weights.

    Args:
        model_name: folder or Hub name of a model that was saved with its processor.
        revision: of the Hub name; the newest by default.
        device: where it runs; the first GPU, or the CPU where there is none, by default.

    Raises:
        SourceError: there is no such model.

    Example:

        import mteb

        encoder = CMMixerEncoder("demo/seed-0/retrieval")
        mteb.evaluate(encoder, mteb.get_tasks(["VGGSoundAVA2VRetrieval", "VATEXV2ARetrieval.v2"]))
    """

    def __init__(self, model_name: str, revision: str | None = None, *, device: str | None = None):
        self.embedder = Embedder(model_name, device, revision=revision)
        self.revision = revision or self.embedder.identity

    @property
    def mteb_model_meta(self) -> "ModelMeta":
        """What mteb writes into its results, and checks tasks against."""
        from mteb.models import ModelMeta
        from mteb.models.model_meta import ScoringFunction

        model, name = self.embedder.model, self.embedder.name
        facts = {
            "name": f"local/{Path(name).resolve().name}" if Path(name).is_dir() else name,
            "revision": self.revision,
            "n_parameters": model.num_parameters(),
            "embed_dim": math.prod(self.embedder.shape),
            "framework": ["PyTorch", "Transformers"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": list(MODALITIES),
        }
        return ModelMeta.create_empty(facts)

    def encode(
        self,
        inputs: "DataLoader[Any]",
        *,
        task_metadata: "TaskMetadata",
        prompt_type: "PromptType | None" = None,
        **kwargs: Any,
    ) -> Tensor:
        """Embeddings (clips, K · size) of the files in a task's columns `video`, `audio` or both.

        Raises:
            SourceError: the task asks for text or pictures, or its columns hold no files.
            MediaError: a file cannot be used.
        """
        modalities = task_metadata.get_modalities(prompt_type)
        if unknown := sorted(set(modalities) - set(MODALITIES)):
            raise SourceError(
                f"{task_metadata.name} asks for {' and '.join(unknown)}, and this model knows video and audio alone: "
                'take tasks from mteb.get_tasks(modalities=["video", "audio"], exclusive_modality_filter=True)'
            )
        sampling = clip_sampling(self.embedder.extractor)
        loader: DataLoader[Any] = DataLoader(
            undecoded(inputs.dataset),
            batch_size=inputs.batch_size,
            num_workers=inputs.num_workers,
            collate_fn=partial(read_batch, modalities=modalities, sampling=sampling),
        )
        return torch.cat([self._embed(batch).flatten(1) for batch in loader])

    def _embed(self, batch: Arrays) -> Tensor:
        """(clips, K, size), each segment of norm 1."""
        segments = [self.embedder.embed_batch(clips, modality) for modality, clips in batch.items()]
        return nn.functional.normalize(torch.stack(segments).sum(0), dim=-1)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosine of every pair, (N, M)."""
        return _unit(embeddings1) @ _unit(embeddings2).T

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Tensor:
        """Cosine of the pairs by position, (N,)."""
        return (_unit(embeddings1) * _unit(embeddings2)).sum(-1)


def undecoded(dataset: Dataset) -> Dataset:
    """The same rows with paths and bytes of media in place of decoders, which would need torchcodec."""
    for name, feature in dataset.features.items():
        if isinstance(feature, (Audio, Video)):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset


def read_batch(rows: Sequence[Mapping[str, Any]], *, modalities: Sequence[str], sampling: Sampling) -> Arrays:
    """For each modality the clips of these rows: frames (K, height, width, 3), or windows of sound (K, samples)."""
    batch: Arrays = {modality: [] for modality in modalities}
    for row in rows:
        for modality, clips in batch.items():
            with local_file(_media(row[modality], f"{modality} of {row.get('id', 'a row')}")) as path:
                clip = read_clip(path, sampling, video=modality == "video", audio=modality == "audio")
            clips.append(clip.frames if modality == "video" else clip.waveforms)  # type: ignore[arg-type]
    return batch


def _media(value: Any, name: str) -> Media:
    """A column's undecoded value: bytes where it has them, else a path."""
    record = value if isinstance(value, Mapping) else {}
    if record.get("bytes"):
        return Blob(f"{name} ({record.get('path') or 'no path'})", record["bytes"])
    if record.get("path"):
        return record["path"]
    raise SourceError(f"the {name} is no file but {type(value).__name__}: give columns of datasets' Video and Audio")


def _unit(embeddings: Any) -> Tensor:
    return nn.functional.normalize(torch.as_tensor(embeddings).float(), dim=-1)
