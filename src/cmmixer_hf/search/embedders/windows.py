"""Models that give one vector for a sound or a video: K windows of a section, one after the other, become K vectors.

So search by segments, exact ranking and the picture of a match work as with our own models.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.prepared_clips import SourceError
from ...media.reading import Sampling
from .identity import weights_identity

NUM_SEGMENTS = 3  # windows of a section of 30 s
WINDOW_SECONDS = 10.0  # what CLAP was trained on, and within the limits of the other families


class WindowEmbedder(ABC):
    """Base of the embedders of other families; a subclass embeds single windows and texts.

    Args:
        name: folder or Hub name.
        model: whose weights identify it.
        modalities: what it takes, of `"video"`, `"audio"` and `"text"`.
        sampling_rate: of its sound, in Hz.
        frames_per_window: pictures that it sees of each window.
        shorter_side: pixels that frames are scaled down to.
        num_segments: K, [`NUM_SEGMENTS`] by default; 1 takes one window, from the middle of a section.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        modalities: Sequence[str],
        *,
        sampling_rate: int,
        frames_per_window: int = 1,
        shorter_side: int = 224,
        num_segments: int | None = None,
    ):
        self.name = name
        self.model: Any = model
        self.num_parameters = sum(weight.numel() for weight in model.parameters())
        self.modalities: tuple[str, ...] = tuple(modalities)
        self.num_segments = NUM_SEGMENTS if num_segments is None else num_segments
        if self.num_segments < 1:
            raise SourceError(f"--num_segments must be at least 1, got {num_segments}")
        self.sampling_rate = sampling_rate
        self.frames_per_window = frames_per_window
        self.shorter_side = shorter_side
        made = {"segments": self.num_segments, "seconds": WINDOW_SECONDS, "frames": frames_per_window}
        self.identity = weights_identity(model, made)
        self.size = self._embed_noise()

    def sampling(self, modality: str) -> Sampling:
        """K windows of sound of 10 s, or `frames_per_window` frames for each of the K."""
        self._check(modality)
        frames = self.num_segments * (self.frames_per_window if modality == "video" else 1)
        return Sampling(frames, WINDOW_SECONDS, self.sampling_rate, self.shorter_side)

    @torch.inference_mode()
    def embed_batch(self, clips: Sequence[np.ndarray], modality: str, *, is_query: bool = False) -> Tensor:
        """Embed each window of each clip, (clips, K, size) on the CPU, of norm 1."""
        self._check(modality)
        if modality == "video":
            shape = (self.num_segments, self.frames_per_window)
            videos = [window for clip in clips for window in clip.reshape(*shape, *clip.shape[1:])]
            vectors = self._embed_videos(videos, is_query=is_query)
        else:
            vectors = self._embed_sounds([trim(window) for clip in clips for window in clip], is_query=is_query)
        return _unit(vectors).unflatten(0, (len(clips), self.num_segments))

    @torch.inference_mode()
    def embed_text(self, texts: Sequence[str], target: str) -> Tensor:
        """Embed words, (texts, K, size) on the CPU: the same vector for each of the K, of norm 1."""
        self._check("text")
        return _unit(self._embed_texts(list(texts), target))[:, None].repeat(1, self.num_segments, 1)

    @abstractmethod
    def _embed_sounds(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        """Mono sounds (samples,) at `sampling_rate` → (windows, size)."""

    def _embed_videos(self, windows: list[np.ndarray], *, is_query: bool) -> Tensor:
        """Frames (frames, height, width, 3) uint8 → (windows, size)."""
        raise NotImplementedError

    @abstractmethod
    def _embed_texts(self, texts: list[str], target: str) -> Tensor:
        """Words → (texts, size)."""

    def _check(self, modality: str) -> None:
        if modality not in self.modalities:
            knows = " and ".join(self.modalities)
            raise SourceError(f"{self.name} knows no {modality}, only {knows}: ask with {knows}, or take another model")

    def _embed_noise(self) -> int:
        """The size of a vector: that of a text or of a second of noise."""
        if "text" in self.modalities:
            return self.embed_text(["noise"], next(name for name in self.modalities if name != "text")).shape[-1]
        noise = np.random.default_rng(0).uniform(-1, 1, self.sampling_rate).astype(np.float32)
        return self.embed_batch([np.stack([noise] * self.num_segments)], "audio").shape[-1]


def trim(window: np.ndarray) -> np.ndarray:
    """Sound without the zeros that fill a window beyond a file's end; a thousand samples at least.

    >>> len(trim(np.concatenate([np.ones(3000), np.zeros(9000)])))
    3000
    """
    nonzero = np.flatnonzero(window)
    return window[: max(1000, nonzero[-1] + 1 if len(nonzero) else 0)]


def needs(error: ImportError, family: str) -> SourceError:
    """What to install for a model of another family."""
    return SourceError(f'{family} needs {error.name or error}, which is missing: pip install "cmmixer_hf[hub]"')


def _unit(vectors: Tensor) -> Tensor:
    return nn.functional.normalize(vectors.float().cpu(), dim=-1)
