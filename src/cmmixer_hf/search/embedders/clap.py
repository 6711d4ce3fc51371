"""CLAP (`laion/clap-htsat-unfused` and its kin): sound and words in one space, for libraries of tracks."""

import numpy as np
import torch
from torch import Tensor

from ...loading import SavedModel, load_processor, load_saved
from .windows import WindowEmbedder


class CLAPEmbedder(WindowEmbedder):
    """transformers' `ClapModel` with its own processor: 48 kHz, windows of 10 s, no pictures.

    Args:
        saved: a CLAP that was saved with its processor.
        device: where it runs.
        num_segments: K, windows of a section that are embedded one by one; 3 by default.

    Raises:
        SourceError: the model or its processor cannot be loaded.
    """

    def __init__(self, saved: SavedModel, device: torch.device | str, *, num_segments: int | None = None):
        from transformers import ClapModel, ClapProcessor

        model = load_saved(ClapModel, saved).to(device)
        self.processor = load_processor(saved, ClapProcessor)
        rate = self.processor.feature_extractor.sampling_rate
        super().__init__(saved.name, model, ("audio", "text"), sampling_rate=rate, num_segments=num_segments)

    def _embed_sounds(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        inputs = self.processor.feature_extractor(windows, sampling_rate=self.sampling_rate, return_tensors="pt")
        # transformers 5.23, ClapFeatureExtractor: where no sound is longer than 10 s, it marks one at random as longer,
        # and a model that fuses would embed the same sound differently each time.
        inputs["is_longer"] = torch.zeros(len(windows), 1, dtype=torch.bool)
        return self.model.get_audio_features(**inputs.to(self.model.device)).pooler_output

    def _embed_texts(self, texts: list[str], target: str) -> Tensor:
        tokens = self.processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        return self.model.get_text_features(**tokens.to(self.model.device)).pooler_output
