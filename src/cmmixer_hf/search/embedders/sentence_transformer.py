"""Any Sentence Transformer that takes video or audio (`google/embeddinggemma-2`, omni-embedders), with its prompts."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import cached_file

from ...data.prepared_clips import SourceError
from ...loading import SavedModel, load_saved
from .embedder import MODALITIES, SENTENCE_TRANSFORMER
from .windows import WINDOW_SECONDS, WindowEmbedder, needs

USUAL_RATE = 16000  # where the processor names none
FRAMES_PER_SECOND = 1  # as EmbeddingGemma 2 takes them


class SentenceTransformerEmbedder(WindowEmbedder):
    """`SentenceTransformer.encode_document` for items, `encode_query` for queries (extra `[hub]`).

    Raises:
        SourceError: sentence-transformers is missing, or the model cannot be loaded, lacks weights or takes no media.
    """

    def __init__(self, saved: SavedModel, device: torch.device | str, *, num_segments: int | None = None):
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise needs(error, "a Sentence Transformer") from error
        try:
            model: Any = SentenceTransformer(
                saved.name, device=str(device), revision=saved.revision, model_kwargs={"use_safetensors": True}
            ).eval()
        except (OSError, ValueError, ImportError) as error:
            reason = " ".join(str(error).split())
            raise SourceError(f"{saved.name} cannot be loaded as a Sentence Transformer: {reason}") from error
        _check_weights(saved, model)
        takes = [modality for modality in (*MODALITIES, "text") if modality in model.modalities]
        if not set(takes) & set(MODALITIES):
            raise SourceError(f"{saved.name} takes {' and '.join(map(str, model.modalities))}, neither video nor audio")
        super().__init__(
            saved.name,
            model,
            takes,
            sampling_rate=_sampling_rate(model),
            frames_per_window=round(WINDOW_SECONDS * FRAMES_PER_SECOND),
            num_segments=num_segments,
        )

    def _embed_sounds(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        return self._encode(
            [{"array": window, "sampling_rate": self.sampling_rate} for window in windows], is_query=is_query
        )

    def _embed_videos(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        facts = {"fps": FRAMES_PER_SECOND, "total_num_frames": self.frames_per_window, "duration": WINDOW_SECONDS}
        videos = [
            {"array": np.ascontiguousarray(window.transpose(0, 3, 1, 2)), "video_metadata": dict(facts)}
            for window in windows
        ]
        return self._encode(videos, is_query=is_query)

    def _embed_texts(self, texts: list[str], target: str) -> Tensor:
        return self._encode(texts, is_query=True)

    def _encode(self, inputs: list[Any], *, is_query: bool) -> Tensor:
        model: Any = self.model
        encode = model.encode_query if is_query else model.encode_document
        return encode(inputs, convert_to_tensor=True, show_progress_bar=False)


def _check_weights(saved: SavedModel, model: Any) -> None:
    """Refuse missing weights, which sentence-transformers 6.2 draws at random; no weight is read for that.

    Raises:
        SourceError: some are missing.
    """
    inner = next((type(part) for part in model[0].children() if isinstance(part, PreTrainedModel)), None)
    if inner is not None:
        modules = Path(cached_file(saved.name, SENTENCE_TRANSFORMER, revision=saved.revision) or "")
        folder = json.loads(modules.read_text(encoding="utf-8"))[0]["path"]
        load_saved(inner, saved, device_map="meta", subfolder=folder)


def _sampling_rate(model: Any) -> int:
    """That of the processor's sound."""
    processor = getattr(model[0], "processor", None)
    parts: list[Any] = [getattr(processor, name, None) for name in ("feature_extractor", "audio_processor")]
    return next((part.sampling_rate for part in parts if hasattr(part, "sampling_rate")), USUAL_RATE)
