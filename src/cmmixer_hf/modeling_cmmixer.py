"""CMMixer: the encoder, its masked pre-training with one or two decoders (§3.3), and retrieval (§3.4)."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_cmmixer import CMMixerConfig
from .layers import CMMixerAttention, CMMixerLayer
from .losses import info_nce, normalise_patches, reconstruction_loss
from .masking import random_masking, restore, select
from .metrics import segment_similarity
from .mixing import MIXERS, mix
from .patching import patchify, sincos_positions, unpatchify

MODALITIES = ("video", "audio")


@dataclass
class CMMixerModelOutput(ModelOutput):
    """What the encoder returns.

    Args:
        last_hidden_state: (batch, 1 + visible tokens, hidden), the cls token first, after the final norm.
        mask: (batch, tokens), 0 is kept, 1 is removed; `None` where nothing was masked.
        ids_restore: (batch, tokens), where each token stands among the kept ones followed by the removed ones.
        hidden_states, attentions: per layer, where asked for.
    """

    last_hidden_state: Tensor | None = None
    mask: Tensor | None = None
    ids_restore: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerForPreTrainingOutput(ModelOutput):
    """What pre-training returns.

    Args:
        loss: `video_loss` + `audio_loss`, 1:1; scalar.
        video_loss, audio_loss: reconstruction errors in the units of the normalised stacks, squared.
        video_logits, audio_logits: predicted patches, (batch, tokens, p · p · channels).
        mask: (batch, tokens), 1 where the encoder did not see the mixture.
        ids_restore: (batch, tokens).
        mixing_mask: M of Eq. 1, (batch, K, 1, H, W), 1 where the video shows.
        hidden_states, attentions: of the encoder, where asked for.
    """

    loss: Tensor | None = None
    video_loss: Tensor | None = None
    audio_loss: Tensor | None = None
    video_logits: Tensor | None = None
    audio_logits: Tensor | None = None
    mask: Tensor | None = None
    ids_restore: Tensor | None = None
    mixing_mask: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerFeatures(ModelOutput):
    """Embeddings of one modality.

    Args:
        pooler_output: (batch, hidden), mean over the segments, L2-normalised; for a first search.
        segment_embeds: (batch, K, hidden), P_{i,l} of Eq. 2, each L2-normalised; for the exact score.
        last_hidden_state: (batch, 1 + tokens, hidden).
        hidden_states, attentions: per layer, where asked for.
    """

    pooler_output: Tensor | None = None
    segment_embeds: Tensor | None = None
    last_hidden_state: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class CMMixerForRetrievalOutput(ModelOutput):
    """What retrieval returns.

    Args:
        loss: InfoNCE over all segments of the global batch (Eq. 2); scalar.
        logits_per_video: (videos, tracks), mean over l of cos(P^v_l, P^m_l), over τ.
        logits_per_audio: its transpose.
        video_embeds, audio_embeds: pooled, (batch, hidden), L2-normalised.
        video_segment_embeds, audio_segment_embeds: (batch, K, hidden), L2-normalised.
    """

    loss: Tensor | None = None
    logits_per_video: Tensor | None = None
    logits_per_audio: Tensor | None = None
    video_embeds: Tensor | None = None
    audio_embeds: Tensor | None = None
    video_segment_embeds: Tensor | None = None
    audio_segment_embeds: Tensor | None = None


class CMMixerPatchEmbeddings(nn.Module):
    """Linear projection of patches, which is MAE's strided convolution applied to the chosen patches only."""

    def __init__(self, config: CMMixerConfig):
        super().__init__()
        self.projection = nn.Linear(config.patch_size**2 * config.num_channels, config.hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, tokens, p · p · channels) → (batch, tokens, hidden), in the dtype of the weights."""
        return self.projection(patches.to(self.projection.weight.dtype))


class CMMixerPreTrainedModel(PreTrainedModel):
    """What all CMMixer models share: configuration, initialisation, loading and saving."""

    config: CMMixerConfig
    base_model_prefix = "cmmixer"
    main_input_name = "pixel_values"
    input_modalities = ["video", "audio"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["CMMixerLayer"]  # noqa: RUF012 - transformers declares it as a plain list
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": CMMixerLayer, "attentions": CMMixerAttention}  # noqa: RUF012
    _input_embed_layer = "patch_embeddings"

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """MAE's initialisation: Xavier for linear layers, normal for the cls and mask tokens."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, CMMixerModel):
            init.normal_(module.cls_token, std=self.config.initializer_range)
        elif isinstance(module, CMMixerDecoder):
            init.normal_(module.mask_token, std=self.config.initializer_range)
        elif isinstance(module, CMMixerForRetrieval):
            init.constant_(module.log_temperature, torch.tensor(self.config.temperature).log().item())


class CMMixerModel(CMMixerPreTrainedModel):
    """The encoder: a ViT over all tokens of all frames jointly. It never masks unless asked.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerModel(CMMixerConfig(**small))
    >>> model(pixel_values=torch.randn(2, 8, 3, 32, 48)).last_hidden_state.shape
    torch.Size([2, 49, 32])
    """

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.patch_embeddings = CMMixerPatchEmbeddings(config)
        sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size)
        self.layers = nn.ModuleList(CMMixerLayer(config, *sizes) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        noise: Tensor | None = None,
        mask_ratio: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CMMixerModelOutput:
        """Encode one stack: frames, spectrograms or a mixture.

        Args:
            pixel_values: normalised frames or a mixture, (batch, K, channels, H, W); H and W multiples of the patch.
            audio_values: normalised spectrograms, likewise; give one of the two.
            noise: (batch, tokens) for the choice of masked tokens; drawn when absent.
            mask_ratio: share of the tokens to hide, in [0, 1); `None` hides none.
        """
        given = [stack for stack in (pixel_values, audio_values) if stack is not None]
        if len(given) != 1:
            raise ValueError("give either pixel_values or audio_values: the encoder takes one stack at a time")
        stack = check_stack(given[0], self.config)
        patches = patchify(stack, self.config.patch_size)
        positions = stack_positions(stack, self.config.patch_size, self.config.hidden_size)
        positions = positions.expand(len(stack), -1, -1)
        mask = ids_restore = None
        if mask_ratio is not None:
            noise = torch.rand(patches.shape[:2], device=stack.device) if noise is None else noise
            ids_keep, ids_restore, mask = random_masking(noise, mask_ratio)
            patches, positions = select(patches, ids_keep), select(positions, ids_keep)
        tokens = self.patch_embeddings(patches)
        hidden_states = torch.cat([self.cls_token.expand(len(stack), -1, -1), tokens + positions.to(tokens.dtype)], 1)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        return CMMixerModelOutput(self.layernorm(hidden_states), mask=mask, ids_restore=ids_restore)


class CMMixerDecoder(nn.Module):
    """Visible and mask tokens → patches of the originals. Solo is one of these with two heads, Duet two with one."""

    def __init__(self, config: CMMixerConfig, modalities: tuple[str, ...]):
        super().__init__()
        width = config.decoder_hidden_size
        self.embed = nn.Linear(config.hidden_size, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        sizes = (width, config.decoder_num_attention_heads, config.decoder_intermediate_size)
        self.layers = nn.ModuleList(CMMixerLayer(config, *sizes) for _ in range(config.decoder_num_hidden_layers))
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        pixels = config.patch_size**2 * config.num_channels
        self.heads = nn.ModuleDict({modality: nn.Linear(width, pixels) for modality in modalities})

    def forward(self, encoded: Tensor, ids_restore: Tensor, positions: Tensor, **kwargs) -> dict[str, Tensor]:
        """(batch, 1 + visible, hidden) → patches a modality, (batch, tokens, p · p · channels)."""
        embedded = self.embed(encoded)
        tokens = restore(embedded[:, 1:], self.mask_token, ids_restore) + positions.to(embedded.dtype)
        hidden_states = torch.cat([embedded[:, :1], tokens], 1)
        for layer in self.layers:
            hidden_states = layer(hidden_states, **kwargs)
        hidden_states = self.layernorm(hidden_states[:, 1:])
        return {modality: head(hidden_states) for modality, head in self.heads.items()}


class CMMixerForPreTraining(CMMixerPreTrainedModel):
    """Fuse, then separate: mix both originals (Eq. 1), hide tokens of the mixture, reconstruct both (§3.3).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForPreTraining(CMMixerConfig(**small))
    >>> output = model(pixel_values=torch.randn(2, 8, 3, 32, 32), audio_values=torch.randn(2, 8, 3, 32, 32))
    >>> output.loss.shape, output.video_logits.shape
    (torch.Size([]), torch.Size([2, 32, 768]))
    """

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.cmmixer = CMMixerModel(config)
        groups = [MODALITIES] if config.decoder == "solo" else [(modality,) for modality in MODALITIES]
        self.decoders = nn.ModuleList(CMMixerDecoder(config, modalities) for modalities in groups)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        mixing_mask: Tensor | None = None,
        noise: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CMMixerForPreTrainingOutput:
        """Reconstruct both modalities from a masked mixture of them.

        Args:
            pixel_values, audio_values: normalised stacks of one shape, (batch, K, channels, H, W).
            mixing_mask: M, (batch, K, 1, H, W), 1 where the video shows; drawn by the configured mixer when absent.
            noise: (batch, tokens) for the choice of masked tokens; drawn when absent.
            return_loss: compute the losses.
        """
        if pixel_values is None or audio_values is None:
            raise ValueError("pre-training needs both pixel_values and audio_values")
        video, audio = check_stack(pixel_values, self.config), check_stack(audio_values, self.config)
        if mixing_mask is None:
            mixing_mask = self.draw_mixing_mask(video)
        mixture = mix(video, audio, mixing_mask)
        encoded = self.cmmixer(mixture, noise=noise, mask_ratio=self.config.mask_ratio, **kwargs)
        positions = stack_positions(video, self.config.patch_size, self.config.decoder_hidden_size)
        logits: dict[str, Tensor] = {}
        for decoder in self.decoders:
            logits |= decoder(encoded.last_hidden_state, encoded.ids_restore, positions)
        losses: dict[str, Tensor] = {}
        if return_loss:
            losses["video_loss"] = self.reconstruction_loss(logits["video"], video, encoded.mask)
            losses["audio_loss"] = self.reconstruction_loss(logits["audio"], audio, encoded.mask)
            losses["loss"] = losses["video_loss"] + losses["audio_loss"]
        return CMMixerForPreTrainingOutput(
            **losses,
            video_logits=logits["video"],
            audio_logits=logits["audio"],
            mask=encoded.mask,
            ids_restore=encoded.ids_restore,
            mixing_mask=mixing_mask,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def draw_mixing_mask(self, stack: Tensor) -> Tensor:
        """M of Eq. 1 for a stack, by the configured mixer."""
        batch, frames, _, height, width = stack.shape
        mixer = MIXERS[self.config.mixer]
        return mixer(batch, frames, (height, width), device=stack.device, **(self.config.mixer_kwargs or {}))

    def reconstruction_loss(self, logits: Tensor, original: Tensor, mask: Tensor) -> Tensor:
        """Error of one modality's predicted patches against its original stack."""
        target = patchify(original, self.config.patch_size)
        counted = mask if self.config.loss_on == "masked" else None
        return reconstruction_loss(logits, target, counted, norm_pix=self.config.norm_pix_loss)

    def unpatchify(self, logits: Tensor, original: Tensor) -> Tensor:
        """Predicted patches as a stack like `original`, (batch, K, channels, H, W).

        Under `norm_pix_loss` the prediction is relative to each patch's mean and deviation, taken from `original`.
        """
        if self.config.norm_pix_loss:
            _, mean, deviation = normalise_patches(patchify(original, self.config.patch_size).float())
            logits = logits * deviation + mean
        return unpatchify(logits, self.config.patch_size, frames=original.shape[1], size=stack_size(original))


class CMMixerForRetrieval(CMMixerPreTrainedModel):
    """Two encoders, both copies of the pre-trained one, trained with InfoNCE over segments (Eq. 2, §3.4).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForRetrieval(CMMixerConfig(**small))
    >>> model.get_video_features(torch.randn(2, 8, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 8, 32])
    """

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.video_model = CMMixerModel(config)
        self.audio_model = CMMixerModel(config)
        self.log_temperature = nn.Parameter(torch.zeros(()), requires_grad=config.learnable_temperature)
        self.post_init()

    @classmethod
    def from_encoder_pretrained(cls, pretrained_model_name_or_path: str, **kwargs) -> "CMMixerForRetrieval":
        """Both towers from one pre-trained encoder, whatever head the checkpoint has.

        Args:
            pretrained_model_name_or_path: Hub name or folder of a saved [`CMMixerForPreTraining`] or [`CMMixerModel`].
            kwargs: passed to [`CMMixerModel.from_pretrained`]; configuration fields among them are overridden.
        """
        return cls.from_encoder(CMMixerModel.from_pretrained(pretrained_model_name_or_path, **kwargs))

    @classmethod
    def from_encoder(cls, encoder: CMMixerModel) -> "CMMixerForRetrieval":
        """Both towers as copies of `encoder`; later changes to one change neither."""
        model = cls(copy.deepcopy(encoder.config))
        model.video_model.load_state_dict(encoder.state_dict())
        model.audio_model.load_state_dict(encoder.state_dict())
        model.to(dtype=encoder.dtype)  # type: ignore[call-arg]
        return model

    def get_input_embeddings(self) -> nn.Module:
        """The video tower's patch embeddings."""
        return self.video_model.patch_embeddings

    def get_video_features(self, pixel_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> CMMixerFeatures:
        """Embed frames, (batch, K, channels, H, W)."""
        return _features(self.video_model(pixel_values=pixel_values, **kwargs), segments=pixel_values.shape[1])

    def get_audio_features(self, audio_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> CMMixerFeatures:
        """Embed spectrograms, (batch, K, channels, H, W)."""
        return _features(self.audio_model(audio_values=audio_values, **kwargs), segments=audio_values.shape[1])

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        track_id: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CMMixerForRetrievalOutput:
        """Embed pairs and compare them.

        Args:
            pixel_values, audio_values: normalised stacks, (batch, K, channels, H, W), paired by position.
            track_id: (batch,) integers; clips that share a track are positives of one another.
            return_loss: compute InfoNCE; needs equal batches of both.
        """
        if pixel_values is None or audio_values is None:
            raise ValueError(
                "retrieval compares both modalities; for one, call get_video_features or get_audio_features."
            )
        video = self.get_video_features(pixel_values, **kwargs)
        audio = self.get_audio_features(audio_values, **kwargs)
        temperature = self.log_temperature.float().exp()
        logits = segment_similarity(video["segment_embeds"], audio["segment_embeds"]) / temperature
        loss = None
        if return_loss:
            pairs = (video["segment_embeds"], audio["segment_embeds"])
            direction = self.config.contrastive_direction
            loss = info_nce(*pairs, temperature, track_id=track_id, direction=direction)
        return CMMixerForRetrievalOutput(
            loss=loss,
            logits_per_video=logits,
            logits_per_audio=logits.T,
            video_embeds=video.pooler_output,
            audio_embeds=audio.pooler_output,
            video_segment_embeds=video.segment_embeds,
            audio_segment_embeds=audio.segment_embeds,
        )


def check_stack(stack: Tensor, config: CMMixerConfig) -> Tensor:
    """Refuse a stack that is not (batch, K, channels, H, W) in floating point with H and W multiples of the patch."""
    expected = f"(batch, frames, {config.num_channels}, height, width) with sides divisible by {config.patch_size}"
    shape = tuple(stack.shape)
    if len(shape) != 5 or shape[2] != config.num_channels or any(side % config.patch_size for side in shape[3:]):
        raise ValueError(f"expected a stack of shape {expected}, got {shape}")
    if not stack.is_floating_point():
        raise ValueError(
            f"expected a normalised floating-point stack, got {stack.dtype}; call the feature extractor first"
        )
    return stack


def stack_size(stack: Tensor) -> tuple[int, int]:
    """Height and width of a stack in pixels."""
    return stack.shape[-2], stack.shape[-1]


def stack_positions(stack: Tensor, patch_size: int, dim: int) -> Tensor:
    """Positions of a stack's tokens, (1, tokens, dim)."""
    _, frames, _, height, width = stack.shape
    return sincos_positions(frames, (height // patch_size, width // patch_size), dim, device=stack.device)[None]


def _features(encoded: CMMixerModelOutput, segments: int) -> CMMixerFeatures:
    """P_{i,l}: the mean of frame l's tokens after the final norm."""
    tokens = encoded["last_hidden_state"][:, 1:]
    segment_means = tokens.unflatten(1, (segments, -1)).mean(2)
    return CMMixerFeatures(
        pooler_output=nn.functional.normalize(segment_means.mean(1), dim=-1),
        segment_embeds=nn.functional.normalize(segment_means, dim=-1),
        last_hidden_state=encoded.last_hidden_state,
        hidden_states=encoded.hidden_states,
        attentions=encoded.attentions,
    )


__all__ = ["CMMixerForPreTraining", "CMMixerForRetrieval", "CMMixerModel", "CMMixerPreTrainedModel"]
