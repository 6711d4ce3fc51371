"""Inputs of the baselines of Table 2: one frozen feature vector a segment, from an encoder or hand-made statistics."""

import copy
from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from ..configuration_cmmixer import CMMixerConfig
from ..safe_loading import SafePreTrainedModel, refuse_missing


def colour_statistics(stack: Tensor, cells: int) -> Tensor:
    """Mean and standard deviation of each colour in each cell of a coarse grid.

    Args:
        stack: frames, (batch, K, channels, height, width), in any units.
        cells: a side of the grid; height and width hold at least so many pixels.

    Returns:
        (batch, K, 2 · channels · cells²), in the units of `stack`.

    >>> colour_statistics(torch.ones(2, 8, 3, 32, 32), cells=4).shape
    torch.Size([2, 8, 96])
    """
    frames = stack.flatten(0, 1)
    mean = nn.functional.adaptive_avg_pool2d(frames, cells)
    variance = nn.functional.adaptive_avg_pool2d(frames.square(), cells) - mean.square()
    return torch.cat([mean, variance.clamp(min=0).sqrt()], 1).flatten(1).unflatten(0, stack.shape[:2])


def mel_statistics(stack: Tensor, bands: int) -> Tensor:
    """Mean, standard deviation and maximum over time of log-mel bands and of their changes from column to column.

    Args:
        stack: spectrograms, (batch, K, channels, height, width), frequency up and time across; at least two columns.
            The channels are copies of one another, and their mean is taken.
        bands: how many bands the rows are averaged into.

    Returns:
        (batch, K, 6 · bands), in the units of `stack`.

    >>> mel_statistics(torch.ones(2, 8, 3, 32, 32), bands=16).shape
    torch.Size([2, 8, 96])
    """
    rows = stack.mean(2)
    levels = nn.functional.adaptive_avg_pool2d(rows, (bands, rows.shape[-1]))
    parts = []
    for curves in (levels, levels.diff(dim=-1)):
        parts += [curves.mean(-1), curves.std(-1, correction=0), curves.amax(-1)]
    return torch.cat(parts, -1)


SOURCES = ("encoder", "colour_statistics", "mel_statistics")
POOLINGS = ("mean", "pooler")


@strict
class FrozenFeaturesConfig(PreTrainedConfig):
    r"""Configuration of [`FrozenFeatures`].

    Args:
        source (`"encoder"`, `"colour_statistics"` or `"mel_statistics"`): a network, or
            statistics of frames or of spectrograms.
        encoder_config (`dict` or `PreTrainedConfig`, *optional*): of the network; [`CMMixerConfig`] by default, else an
            image model (it takes `pixel_values`) or an audio spectrogram transformer (it has `num_mel_bins`).
        pooling (`"mean"` or `"pooler"`): the mean of `last_hidden_state`, or the model's own `pooler_output`: CLIP was
            trained with it, many image models get it at random. Of our own encoder it is always the mean.
        input_mean, input_std (`[float]`, *optional*): normalisation of pictures in [0, 1] that the network was trained
            with. Frames are brought to it from `frame_mean` and `frame_std`; spectrograms leave it unset.
        frame_mean, frame_std (`float`): those of the feature extractor.
        num_cells (`int`, defaults to 4): of the colour statistics, along either side of a frame.
        num_bands (`int`, defaults to 32): of the mel statistics.
    """

    model_type = "frozen_features"

    source: str = "encoder"
    encoder_config: dict | PreTrainedConfig | None = None
    pooling: str = "mean"
    input_mean: list[float] | None = None
    input_std: list[float] | None = None
    frame_mean: float = 0.45
    frame_std: float = 0.225
    num_cells: int = 4
    num_bands: int = 32

    def __post_init__(self, **kwargs):
        if self.source == "encoder" and self.encoder_config is None:
            self.encoder_config = CMMixerConfig()
        if isinstance(self.encoder_config, dict):
            self.encoder_config = AutoConfig.for_model(**self.encoder_config)
        super().__post_init__(**kwargs)

    def validate_choices(self) -> None:
        """Refuse a word that names no source or pooling, and half a normalisation."""
        for name, allowed in {"source": SOURCES, "pooling": POOLINGS}.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        if (self.input_mean is None) != (self.input_std is None):
            raise ValueError(f"set both input_mean and input_std or none, got {self.input_mean} and {self.input_std}")

    @property
    def feature_size(self) -> int:
        """Numbers a segment."""
        if self.source == "colour_statistics":
            return 2 * 3 * self.num_cells**2
        if self.source == "mel_statistics":
            return 6 * self.num_bands
        for name in ("hidden_size", "hidden_sizes"):
            size = getattr(self.encoder_config, name, None)
            if size is not None:
                return size if isinstance(size, int) else size[-1]
        raise ValueError(f"{type(self.encoder_config).__name__} has neither hidden_size nor hidden_sizes: take another")


class FrozenFeatures(SafePreTrainedModel):
    """A stack → one vector a segment, without gradients, dropout or training; saved within the model that uses it.

    Example:

    >>> features = FrozenFeatures(FrozenFeaturesConfig(source="mel_statistics"))
    >>> features(torch.randn(2, 8, 3, 64, 64)).shape
    torch.Size([2, 8, 192])
    """

    config: FrozenFeaturesConfig
    base_model_prefix = "features"
    main_input_name = "stack"

    def __init__(self, config: FrozenFeaturesConfig):
        super().__init__(config)
        self.encoder = AutoModel.from_config(config.encoder_config) if config.source == "encoder" else None
        if self.encoder is not None:
            _check_input(self.encoder)
        self.eval()
        self.post_init()

    @classmethod
    def from_encoder(cls, encoder: PreTrainedModel, **settings: Any) -> "FrozenFeatures":
        """Features of a copy of `encoder`; `settings` are fields of [`FrozenFeaturesConfig`]."""
        features = cls(FrozenFeaturesConfig(encoder_config=copy.deepcopy(encoder.config), **settings))
        features.load_state_dict({f"encoder.{name}": value for name, value in encoder.state_dict().items()})
        return features.to(device=encoder.device, dtype=encoder.dtype)  # type: ignore[call-arg]

    @classmethod
    def from_encoder_pretrained(cls, pretrained_model_name_or_path: str, **settings: Any) -> "FrozenFeatures":
        """Features of a saved encoder.

        Args:
            pretrained_model_name_or_path: Hub name or folder of one of our checkpoints, of an image model (of one that
                also reads text, its `vision_config` part) or of an audio spectrogram transformer.
            settings: fields of [`FrozenFeaturesConfig`]; for frames the model's own `input_mean` and `input_std`.

        Raises:
            MissingWeightsError: the checkpoint lacks weights that the features depend on.
        """
        config = AutoConfig.from_pretrained(pretrained_model_name_or_path)
        config = getattr(config, "vision_config", config)
        encoder, report = AutoModel.from_pretrained(
            pretrained_model_name_or_path, config=config, use_safetensors=True, output_loading_info=True
        )
        pooler_is_used = settings.get("pooling") == "pooler"
        missing = [key for key in report["missing_keys"] if pooler_is_used or not key.startswith("pooler.")]
        refuse_missing(encoder, str(pretrained_model_name_or_path), sorted(missing))
        return cls.from_encoder(encoder, **settings)

    def train(self, mode: bool = True) -> "FrozenFeatures":
        """Stay frozen and in evaluation mode, whatever the model around does.

        `from_pretrained` makes every parameter trainable, and ends with a call of this.
        """
        self.requires_grad_(False)
        return super().train(False)

    @torch.no_grad()
    def forward(self, stack: Tensor) -> Tensor:
        """Frames or spectrograms (batch, K, 3, height, width) → (batch, K, `config.feature_size`).

        Our own encoder sees all segments of a clip together, every other source one at a time.
        """
        if stack.ndim != 5:
            raise ValueError(f"expected a stack of shape (batch, segments, 3, height, width), got {tuple(stack.shape)}")
        if self.encoder is None:
            if self.config.source == "colour_statistics":
                return colour_statistics(stack, self.config.num_cells)
            return mel_statistics(stack, self.config.num_bands)
        if isinstance(self.encoder.config, CMMixerConfig):
            tokens = self.encoder(pixel_values=stack)["last_hidden_state"][:, 1:]
            return tokens.unflatten(1, (stack.shape[1], -1)).mean(2)
        inputs = self._encoder_input(stack.flatten(0, 1), self.encoder.config)
        return self._pool(self.encoder(inputs.to(self.encoder.dtype))).unflatten(0, stack.shape[:2])

    def _encoder_input(self, pictures: Tensor, config: PreTrainedConfig) -> Tensor:
        """(segments, 3, height, width) as an encoder of this `config` wants them; for one channel, their mean."""
        if _reads_spectrograms(config):  # (segments, time, mel), low frequencies first
            columns = pictures.mean(1, keepdim=True).flip(-2).transpose(-1, -2)
            return _resize(columns, (config.max_length, config.num_mel_bins))[:, 0]
        if self.config.input_mean is not None:
            mean, std = (
                torch.tensor(values, device=pictures.device).view(-1, 1, 1)
                for values in (self.config.input_mean, self.config.input_std)
            )
            pictures = (pictures * self.config.frame_std + self.config.frame_mean - mean) / std
        if config.num_channels == 1:
            pictures = pictures.mean(1, keepdim=True)
        size = getattr(config, "image_size", None) or pictures.shape[-2:]
        return _resize(pictures, (size, size) if isinstance(size, int) else tuple(size))

    def _pool(self, encoded: ModelOutput) -> Tensor:
        """(segments, feature size) from tokens (segments, tokens, hidden) or maps (segments, hidden, rows, columns)."""
        if self.config.pooling == "pooler":
            if encoded.get("pooler_output") is None:
                raise ValueError(f"{type(self.encoder).__name__} has no pooler_output: set pooling='mean'")
            return encoded["pooler_output"].flatten(1)
        hidden = encoded["last_hidden_state"]
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _reads_spectrograms(config: PreTrainedConfig) -> bool:
    return hasattr(config, "num_mel_bins") and hasattr(config, "max_length")


def _check_input(encoder: PreTrainedModel) -> None:
    if encoder.main_input_name != "pixel_values" and not _reads_spectrograms(encoder.config):
        raise ValueError(
            f"{type(encoder).__name__} takes {encoder.main_input_name}; frozen features need an image model "
            "(pixel_values) or an audio spectrogram transformer (num_mel_bins, max_length)"
        )


def _resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    return nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True)


__all__ = ["FrozenFeatures", "FrozenFeaturesConfig"]
