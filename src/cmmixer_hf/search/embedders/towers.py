"""The retrievers of this package, CMMixer, CAV-MAE and the baselines, as embedders."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.prepared_clips import SourceError
from ...loading import SavedModel, load_model, load_processor
from ...media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ...media.processing_cmmixer import clip_sampling
from ...media.reading import Sampling
from .embedder import MODALITIES
from .identity import model_identity


class TowerEmbedder:
    """A model with `get_video_features` and `get_audio_features`, and its processor.

    Args:
        saved: a retriever that was saved with its processor.
        device: where it runs.
        num_segments: the K that is expected; the model's own where it is `None`.

    Raises:
        SourceError: it is no retriever, was saved in part, or its K is another one.
    """

    modalities: tuple[str, ...] = MODALITIES

    def __init__(self, saved: SavedModel, device: torch.device | str, *, num_segments: int | None = None):
        self.name = saved.name
        self.model: Any = load_model(saved).to(device)  # type: ignore[arg-type]
        self.processor = load_processor(saved)
        self.num_parameters: int = self.model.num_parameters()
        self.identity = model_identity(self.model, self.extractor)
        self.num_segments, self.size = self._shape()
        if num_segments not in (None, self.num_segments):
            raise SourceError(
                f"{self.name} gives {self.num_segments} vectors a section, not {num_segments}: leave --num_segments out"
            )

    @property
    def extractor(self) -> CMMixerFeatureExtractor:
        """What makes its stacks."""
        return self.processor.feature_extractor

    def sampling(self, modality: str) -> Sampling:
        """K frames and K windows of sound, as in §3.2 and §4.3, whichever is asked for."""
        return clip_sampling(self.extractor)

    def embed_batch(self, clips: Sequence[np.ndarray], modality: str, *, is_query: bool = False) -> Tensor:
        """Embed frames (K, height, width, 3) or windows (K, samples): (clips, K, size) on the CPU."""
        videos, audio = (list(clips), None) if modality == "video" else (None, list(clips))
        with torch.autocast(self.model.device.type, enabled=False):  # whatever the model computes in
            rate = self.extractor.sampling_rate
            stacks = self.extractor(videos=videos, audio=audio, sampling_rate=rate, device=self.model.device)
        return self._embed(stacks, modality)

    def embed_text(self, texts: Sequence[str], target: str) -> Tensor:
        """These models know no words.

        Raises:
            SourceError: always; it says which models do.
        """
        raise SourceError(
            f"{self.name} knows no words, only sound and pictures: ask with a file, or index with a model that knows "
            "words, such as facebook/pe-av-small, google/embeddinggemma-2 or a CLAP"
        )

    @torch.inference_mode()
    def _embed(self, stacks: Mapping[str, Any], modality: str) -> Tensor:
        features = self.model.get_video_features if modality == "video" else self.model.get_audio_features
        return features(**stacks)["segment_embeds"].float().cpu()

    def _shape(self) -> tuple[int, int]:
        """K and size: those of a clip of noise, for a baseline may pool the segments."""
        samples = round(self.extractor.window_seconds * self.extractor.sampling_rate)
        noise = np.random.default_rng(0).uniform(-1, 1, (self.extractor.num_frames, samples)).astype(np.float32)
        _, num_segments, size = self.embed_batch([noise], "audio").shape
        return num_segments, size
