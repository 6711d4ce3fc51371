"""Media files → segment embeddings: a retrieval model with its processor, and what tells one from another."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .configuration_cmmixer import CMMixerConfig
from .data import SourceError
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .media import probe
from .modeling_cmmixer import CMMixerForRetrieval
from .processing_cmmixer import CMMixerProcessor

MODALITIES = ("video", "audio")
# Values of each weight that the identity reads, evenly spread: training moves nearly all, and so many take no time.
VALUES_PER_WEIGHT = 4096


class Embedder:
    """A retrieval model and its processor: files in, segment embeddings (K, size) out.

    Args:
        model: folder or Hub name of a [`CMMixerForRetrieval`] saved with its processor.
        device: where it runs; the first GPU, or the CPU where there is none, by default.
        revision: branch, tag or commit of a Hub name; the newest by default.

    Raises:
        SourceError: there is no such model.
    """

    def __init__(self, model: str, device: torch.device | str | None = None, *, revision: str | None = None):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        asked: dict[str, Any] = {"revision": revision} if revision else {}
        try:
            self.model = CMMixerForRetrieval.from_pretrained(model, use_safetensors=True, **asked).eval().to(device)
            self.processor = CMMixerProcessor.from_pretrained(model, **asked)
        except OSError as error:
            reason = " ".join(str(error).split())
            raise SourceError(
                f"{model} is neither a model's folder nor a Hub name that can be reached: {reason}"
            ) from error
        self.name = model
        self.identity = model_identity(self.model, self.extractor)

    @property
    def extractor(self) -> CMMixerFeatureExtractor:
        """What makes its stacks."""
        return self.processor.feature_extractor

    def __call__(self, path: str | Path, modality: str | None = None) -> Tensor:
        """Embed a file's picture (`"video"`) or sound (`"audio"`); its picture where it has one, by default.

        Raises:
            MediaError: the file cannot be used.
        """
        if modality is None:
            modality = "video" if probe(path).has_video else "audio"
        if modality == "video":
            return self._embed(self.processor(videos=path, device=self.model.device), modality)[0]
        return self._embed(self.processor(audio=path, device=self.model.device), modality)[0]

    def embed_batch(self, clips: Sequence[np.ndarray], modality: str) -> Tensor:
        """Embed decoded clips, frames (K, height, width, 3) or windows (K, samples): (clips, K, size) on the CPU."""
        videos, audio = (list(clips), None) if modality == "video" else (None, list(clips))
        return self._embed(self.extractor(videos=videos, audio=audio, device=self.model.device), modality)

    @torch.inference_mode()
    def _embed(self, stacks: Mapping[str, Any], modality: str) -> Tensor:
        features = self.model.get_video_features if modality == "video" else self.model.get_audio_features
        return features(**stacks).segment_embeds.float().cpu()


def model_identity(model: CMMixerForRetrieval, extractor: CMMixerFeatureExtractor) -> str:
    """A digest of the model's configuration and weights and of the extractor's settings.

    It depends on what embeds, not on where it lies: a model that was moved, renamed or saved in other shards keeps its
    identity; one that was trained further, or fed with another window of sound, does not. Of each weight it reads its
    shape and [`VALUES_PER_WEIGHT`] values; of the settings, those that are not the default, so that a version of this
    package that knows more of them reads the same identity.
    """
    digest = hashlib.sha256()
    for settings, default, names in (
        (model.config.to_dict(), CMMixerConfig().to_dict(), CMMixerConfig.__annotations__),
        (extractor.to_dict(), CMMixerFeatureExtractor().to_dict(), extractor.to_dict()),
    ):
        changed = {name: settings[name] for name in sorted(names) if settings.get(name) != default.get(name)}
        digest.update(json.dumps(changed).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: -(-len(flat) // VALUES_PER_WEIGHT)].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]
