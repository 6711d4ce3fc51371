"""Base of the baselines of Table 2: standardised frozen features, and the interface of CMMixerForRetrieval."""

import copy
import itertools
from typing import ClassVar, TypeVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers import initialization as init
from transformers.utils.generic import can_return_tuple

from ..outputs import CMMixerFeatures, CMMixerForRetrievalOutput
from ..safe_loading import SafePreTrainedModel
from ..similarity import pool_segments, segment_similarity
from .frozen_features import FrozenFeatures, FrozenFeaturesConfig

Output = TypeVar("Output", bound=CMMixerForRetrievalOutput)


@strict
class BaselineConfig(PreTrainedConfig):
    r"""Fields of all baselines.

    Args:
        video_features, audio_features (`dict` or [`FrozenFeaturesConfig`], *optional*): inputs of the towers.
        embedding_size (`int`, defaults to 512): of the shared space.
    """

    keys_to_ignore_at_inference = ["logits_per_video", "logits_per_audio"]  # noqa: RUF012 - Trainer adds a list to it
    default_sources: ClassVar[dict[str, str]] = {"video_features": "encoder", "audio_features": "encoder"}

    video_features: dict | PreTrainedConfig | None = None
    audio_features: dict | PreTrainedConfig | None = None
    embedding_size: int = 512

    def __post_init__(self, **kwargs):
        for name, source in self.default_sources.items():
            given = getattr(self, name)
            if not isinstance(given, PreTrainedConfig):
                setattr(self, name, FrozenFeaturesConfig(**(given or {"source": source})))
        super().__post_init__(**kwargs)


class StandardisedFeatures(nn.Module):
    """Frozen features with mean 0 and variance 1 in each component, by running statistics of the training clips."""

    def __init__(self, config: FrozenFeaturesConfig):
        super().__init__()
        self.size = config.feature_size
        self.frozen = FrozenFeatures(config)
        self.norm = nn.BatchNorm1d(self.size, affine=False)

    def forward(self, stack: Tensor) -> Tensor:
        """(batch, K, 3, height, width) → (batch, K, size)."""
        features = self.frozen(stack).to(self.norm.running_mean)
        return self.norm(features.flatten(0, 1)).unflatten(0, features.shape[:2])


class BaselineForRetrieval(SafePreTrainedModel):
    """Frozen features of both modalities; a subclass adds `video_tower`, `audio_tower` and `ranking_loss`.

    A tower maps features (batch, K, size) to L2-normalised embeddings (batch, L, dim), L = K or 1.
    """

    config: BaselineConfig
    base_model_prefix = "baseline"
    main_input_name = "pixel_values"
    input_modalities = ["video", "audio"]  # noqa: RUF012 - transformers declares it as a plain list
    video_tower: nn.Module
    audio_tower: nn.Module

    def __init__(self, config: BaselineConfig):
        super().__init__(config)
        self.video_features = StandardisedFeatures(config.video_features)  # type: ignore[arg-type]  # a config by now
        self.audio_features = StandardisedFeatures(config.audio_features)  # type: ignore[arg-type]

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)

    @classmethod
    def from_features(cls, video: FrozenFeatures, audio: FrozenFeatures, **settings) -> "BaselineForRetrieval":
        """A new model on copies of these features; `settings` are fields of its configuration."""
        settings |= {"video_features": copy.deepcopy(video.config), "audio_features": copy.deepcopy(audio.config)}
        model = cls(cls.config_class(**settings))  # type: ignore[misc, arg-type]  # transformers sets the class
        model.video_features.frozen.load_state_dict(video.state_dict())
        model.audio_features.frozen.load_state_dict(audio.state_dict())
        return model

    def ranking_loss(
        self, features: tuple[Tensor, Tensor], embeddings: tuple[Tensor, Tensor], track_id: Tensor | None
    ) -> Tensor:
        """What is minimised, from features and embeddings of (video, audio)."""
        raise NotImplementedError

    @can_return_tuple
    def get_video_features(self, pixel_values: Tensor) -> CMMixerFeatures:
        """Embed frames, (batch, K, 3, H, W)."""
        return _features(self.video_tower(self.video_features(pixel_values)))

    @can_return_tuple
    def get_audio_features(self, audio_values: Tensor) -> CMMixerFeatures:
        """Embed spectrograms, (batch, K, 3, H, W)."""
        return _features(self.audio_tower(self.audio_features(audio_values)))

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        track_id: Tensor | None = None,
        return_loss: bool = True,
    ) -> CMMixerForRetrievalOutput:
        """Embed pairs and compare them.

        Args:
            pixel_values, audio_values: normalised stacks, (batch, K, 3, H, W), paired by position.
            track_id: (batch,) integers; clips that share a track are positives of one another.
            return_loss: compute the loss; needs equal batches of both.
        """
        features = self.features_of_pairs(pixel_values, audio_values)
        embeddings = self.video_tower(features[0]), self.audio_tower(features[1])
        loss = self.ranking_loss(features, embeddings, track_id) if return_loss else None
        return compare(CMMixerForRetrievalOutput, *embeddings, loss=loss)

    def features_of_pairs(self, pixel_values: Tensor | None, audio_values: Tensor | None) -> tuple[Tensor, Tensor]:
        """Standardised features of both modalities, each (batch, K, size)."""
        if pixel_values is None or audio_values is None:
            raise ValueError(
                "retrieval compares both modalities; for one, call get_video_features or get_audio_features."
            )
        return self.video_features(pixel_values), self.audio_features(audio_values)


def register(config_class: type[BaselineConfig], model_class: type[BaselineForRetrieval]) -> None:
    """Let `AutoConfig` and `AutoModel` load what `save_pretrained` of this class wrote, once its file is imported."""
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)


def compare(output_class: type[Output], video: Tensor, audio: Tensor, **losses: Tensor | None) -> Output:
    """Embeddings of both modalities (batch, L, dim) as an output with these losses; the logits are mean cosines."""
    logits = segment_similarity(video, audio)
    return output_class.from_features(_features(video), _features(audio), logits=logits, **losses)


def _features(segments: Tensor) -> CMMixerFeatures:
    return CMMixerFeatures(pool_segments(segments)[:, 0], segments)


class MLP(nn.Sequential):
    """Linear layers of the given widths with an activation and dropout between them."""

    def __init__(self, sizes: list[int], *, activation: nn.Module, dropout: float = 0.0):
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(before, after), activation, nn.Dropout(dropout)]
        super().__init__(*layers, nn.Linear(sizes[-2], sizes[-1]))
