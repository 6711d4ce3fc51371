"""PE-AV (`facebook/pe-av-small`, `-base`, `-large`): video, sound and words in one space, on transformers' own classes.

Its `get_text_audio_embeds`, `get_text_video_embeds` and `get_video_embeds` fail in transformers 5.23 (AttributeError:
the models inside have methods of other names), so the encoders and heads are called here as its `forward` does.
"""

import sys
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.prepared_clips import SourceError
from ...loading import SavedModel, load_processor, load_saved
from .windows import WindowEmbedder, needs

FRAMES_PER_WINDOW = 16  # of the published `-16-frame` variants; the others take any number


class PEAVEmbedder(WindowEmbedder):
    """transformers' `PeAudioVideoModel` with its own processors (extra `[hub]`): 48 kHz, 16 frames a window.

    timm 1.0.31 cannot load it ("`bands` is not an nn.Parameter"); 1.0.26 to 1.0.30 can.

    Raises:
        SourceError: timm or torchvision is missing, or the model or its processor cannot be loaded.
    """

    def __init__(self, saved: SavedModel, device: torch.device | str, *, num_segments: int | None = None):
        try:
            import timm  # noqa: F401 - its picture tower
            import torchvision  # noqa: F401 - its video processor
            from transformers import PeAudioVideoModel, PeAudioVideoProcessor
        except (ImportError, RuntimeError) as error:
            if isinstance(error, ImportError):
                raise needs(error, "PE-AV") from error
            raise SourceError(f"PE-AV needs torchvision, which does not fit this torch: {error}") from error
        # transformers 5.23 prints on stdout that a docstring of this model is incomplete, in the midst of our JSON.
        with redirect_stdout(sys.stderr):
            model = load_saved(PeAudioVideoModel, saved).to(device)
        self.processor = load_processor(saved, PeAudioVideoProcessor)
        pictures = self.processor.video_processor
        super().__init__(
            saved.name,
            model,
            ("video", "audio", "text"),
            sampling_rate=self.processor.feature_extractor.sampling_rate,
            frames_per_window=getattr(pictures, "num_frames", None) or FRAMES_PER_WINDOW,
            shorter_side=min(dict(pictures.size).values()),
            num_segments=num_segments,
        )

    def _embed_sounds(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        inputs = self.processor.feature_extractor(windows, sampling_rate=self.sampling_rate, return_tensors="pt")
        sound: Any = self.model.audio_model
        return sound.audio_head(sound.audio_encoder(**inputs.to(self._device)).pooler_output)

    def _embed_videos(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        frames = [torch.from_numpy(window).permute(0, 3, 1, 2) for window in windows]
        inputs = self.processor.video_processor(frames, do_sample_frames=False, return_tensors="pt")
        pictures: Any = self.model.video_model
        encoded = pictures.video_encoder(inputs["pixel_values_videos"].to(self._device, self.model.dtype))
        return pictures.video_head(encoded.pooler_output)

    def _embed_texts(self, texts: list[str], target: str) -> Tensor:
        """The first token before ModernBERT's final norm, through the head of what is searched."""
        tokens = self.processor.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self._device)
        encoded = self.model.text_model(**tokens, output_hidden_states=True)
        head = self.model.video_model.text_video_head if target == "video" else self.model.audio_model.text_audio_head
        return head(encoded.hidden_states[-1][:, 0])

    @property
    def _device(self) -> torch.device:
        return self.model.device
