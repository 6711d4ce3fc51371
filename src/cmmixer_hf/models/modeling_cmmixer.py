"""CMMixer: the encoder, its masked pre-training (§3.3), retrieval (§3.4) and classification (§4.7)."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from .configuration_cmmixer import CMMixerConfig
from .layers import CMMixerAttention, CMMixerLayer
from .losses import at_least_float32, info_nce, normalise_patches, reconstruction_loss
from .masking import check_hides, even_noise, masking_noise, random_masking, restore, select
from .mixing import draw_mask, mix
from .outputs import CMMixerFeatures, CMMixerForPreTrainingOutput, CMMixerForRetrievalOutput, CMMixerModelOutput
from .patching import check_stack, patchify, sincos_positions, unpatchify
from .safe_loading import SafePreTrainedModel
from .similarity import pool_segments, segment_similarity

MODALITIES = ("video", "audio")


class CMMixerPatchEmbeddings(nn.Module):
    """Linear projection of patches, which is MAE's strided convolution applied to the chosen patches only."""

    def __init__(self, config: CMMixerConfig):
        super().__init__()
        self.projection = nn.Linear(config.patch_size**2 * config.num_channels, config.hidden_size)

    def forward(self, patches: Tensor) -> Tensor:
        """(batch, tokens, p · p · channels) → (batch, tokens, hidden), in the dtype of the weights."""
        return self.projection(patches.to(next(self.projection.parameters(), patches).dtype))


class CMMixerPreTrainedModel(SafePreTrainedModel):
    """Base of all CMMixer models: configuration, initialisation, loading and saving."""

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
        elif isinstance(module, CMMixerForRetrieval) and self.config.learnable_temperature:
            init.constant_(module.log_temperature, torch.tensor(self.config.temperature).log().item())


class CMMixerModel(CMMixerPreTrainedModel):
    """The encoder: a ViT over all tokens of all frames jointly. It never masks unless asked.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerModel(CMMixerConfig(**small))
    >>> model(pixel_values=torch.randn(2, 8, 3, 32, 48)).last_hidden_state.shape
    torch.Size([2, 49, 32])
    """

    _keys_to_ignore_on_load_unexpected = [r"^(decoders|classifier)\."]  # noqa: RUF012

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.patch_embeddings = CMMixerPatchEmbeddings(config)
        rates = [
            config.drop_path_rate * i / max(1, config.num_hidden_layers - 1) for i in range(config.num_hidden_layers)
        ]
        self.layers = nn.ModuleList(
            CMMixerLayer(
                config,
                config.hidden_size,
                config.num_attention_heads,
                intermediate_size=config.intermediate_size,
                drop_path_rate=rate,
            )
            for rate in rates
        )
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
        stacks = [stack for stack in (pixel_values, audio_values) if stack is not None]
        if len(stacks) != 1:
            raise ValueError("give either pixel_values or audio_values: the encoder takes one stack at a time")
        stack = check_stack(stacks[0], self.config.patch_size, self.config.num_channels)
        # cut all frames into patches, one sequence a clip, and say where each lies
        patches = patchify(stack, self.config.patch_size)
        positions = stack_positions(stack, self.config, self.config.hidden_size).expand(stack.shape[0], -1, -1)
        mask = ids_restore = None
        if mask_ratio is not None:
            # hide a share of them: what is hidden is neither embedded nor encoded
            noise = masking_noise(noise, *patches.shape[:2], device=stack.device)
            ids_keep, ids_restore, mask = random_masking(noise, mask_ratio)
            patches, positions = select(patches, ids_keep), select(positions, ids_keep)
        # embed the visible patches, add their positions, put the cls token in front
        tokens = self.patch_embeddings(patches)
        tokens = tokens + positions.to(tokens.dtype)
        hidden_states = torch.cat([self.cls_token.expand(stack.shape[0], -1, -1), tokens], 1)
        # encode: every token attends to those of all frames
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
        heads, inner = config.decoder_num_attention_heads, config.decoder_intermediate_size
        self.layers = nn.ModuleList(
            CMMixerLayer(config, width, heads, intermediate_size=inner) for _ in range(config.decoder_num_hidden_layers)
        )
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        pixels = config.patch_size**2 * config.num_channels
        self.heads = nn.ModuleDict({modality: nn.Linear(width, pixels) for modality in modalities})

    def forward(
        self, encoded: Tensor, ids_restore: Tensor, positions: Tensor, *, ids_predicted: Tensor | None = None
    ) -> dict[str, Tensor]:
        """(batch, 1 + visible, hidden) → patches a modality, (batch, predicted or all tokens, p · p · channels).

        Args:
            encoded: the encoder's output, the cls token first.
            ids_restore: (batch, tokens), as in [`random_masking`].
            positions: (1, tokens, width).
            ids_predicted: (batch, predicted) hidden patches that alone are decoded beside the visible ones and
                predicted; all patches where it is `None`.
        """
        visible = encoded.shape[1] - 1
        embedded = self.embed(encoded)
        # put the visible tokens back in their places, the mask token in all others, and add positions
        tokens = restore(embedded[:, 1:], self.mask_token, ids_restore) + positions.to(embedded.dtype)
        if ids_predicted is not None:
            # leave out the hidden tokens that are not to be predicted
            tokens = select(tokens, torch.cat([ids_restore.argsort(1)[:, :visible], ids_predicted], 1))
        hidden_states = torch.cat([embedded[:, :1], tokens], 1)
        # decode
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        # project to pixels, with a head for each modality
        first = 1 if ids_predicted is None else 1 + visible
        hidden_states = self.layernorm(hidden_states[:, first:])
        return {modality: head(hidden_states) for modality, head in self.heads.items()}


class CMMixerForPreTraining(CMMixerPreTrainedModel):
    """Fuse, then separate: mix both originals (Eq. 1), hide tokens of the mixture, reconstruct both (§3.3).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForPreTraining(CMMixerConfig(**small))
    >>> output = model(pixel_values=torch.randn(2, 8, 3, 32, 32), audio_values=torch.randn(2, 8, 3, 32, 32))
    >>> output.loss.shape, output.video_logits.shape
    (torch.Size([]), torch.Size([2, 16, 768]))
    """

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.cmmixer = CMMixerModel(config)
        groups = [MODALITIES] if config.decoder_type == "solo" else [(modality,) for modality in MODALITIES]
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

        In training with `loss_on="masked"` only hidden patches are predicted, since no other enters the loss.

        Args:
            pixel_values, audio_values: normalised stacks of one shape, (batch, K, channels, H, W).
            mixing_mask: M, (batch, K, 1, H, W), 1 where the video shows; drawn by the configured mixer when absent.
            noise: (batch, tokens) for the choice of masked tokens; drawn when absent.
            return_loss: compute the losses.

        Raises:
            ValueError: a modality is missing, shapes do not fit, or the mask hides none of so few patches.
        """
        if pixel_values is None or audio_values is None:
            raise ValueError("pre-training needs both pixel_values and audio_values")
        sizes = self.config.patch_size, self.config.num_channels
        video, audio = check_stack(pixel_values, *sizes), check_stack(audio_values, *sizes)
        # fuse: mix both modalities (Eq. 1)
        if mixing_mask is None:
            mixing_mask = self.draw_mixing_mask(video)
        mixture = mix(video, audio, mixing_mask)
        # encode what is visible of the mixture
        encoded = self.cmmixer(mixture, noise=noise, mask_ratio=self.config.mask_ratio, return_dict=True, **kwargs)
        # separate: decode both modalities
        ids_predicted = self._choose_patches(encoded) if self.training and return_loss else None
        positions = stack_positions(video, self.config, self.config.decoder_hidden_size)
        logits: dict[str, Tensor] = {}
        for decoder in self.decoders:
            logits |= decoder(encoded.last_hidden_state, encoded.ids_restore, positions, ids_predicted=ids_predicted)
        # compare with both originals, 1:1
        losses: dict[str, Tensor] = {}
        if return_loss:
            losses["video_loss"] = self.reconstruction_loss(logits["video"], video, encoded.mask, ids_predicted)
            losses["audio_loss"] = self.reconstruction_loss(logits["audio"], audio, encoded.mask, ids_predicted)
            losses["loss"] = losses["video_loss"] + losses["audio_loss"]
        return CMMixerForPreTrainingOutput(
            **losses,
            video_logits=logits["video"],
            audio_logits=logits["audio"],
            ids_predicted=ids_predicted,
            mask=encoded.mask,
            ids_restore=encoded.ids_restore,
            mixing_mask=mixing_mask,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def draw_mixing_mask(self, stack: Tensor) -> Tensor:
        """M of Eq. 1 for a stack (batch, K, channels, H, W), by the configured mixer: (batch, K, 1, H, W)."""
        batch, frames, _, height, width = stack.shape
        options = self.config.mixer_kwargs or {}
        return draw_mask(self.config.mixer, batch, frames, (height, width), device=stack.device, **options)

    def _choose_patches(self, encoded: CMMixerModelOutput) -> Tensor | None:
        """Hidden patches to predict, (batch, predicted); `None` where the loss is that of all patches.

        Hidden patches stand behind the visible ones in the order of their noise: the first few are a random part.
        """
        if self.config.loss_on == "all":
            return None
        visible, tokens = encoded["last_hidden_state"].shape[1] - 1, encoded["ids_restore"].shape[1]
        predicted = max(1, round(self.config.decoded_share * (tokens - visible)))
        return encoded["ids_restore"].argsort(1)[:, visible : visible + predicted]

    def reconstruction_loss(
        self, logits: Tensor, original: Tensor, mask: Tensor, ids_predicted: Tensor | None = None
    ) -> Tensor:
        """Error of one modality's predicted patches against its original stack.

        Args:
            logits: predictions, (batch, predicted or all tokens, p · p · channels).
            original: (batch, K, channels, H, W).
            mask: (batch, tokens), 1 where a patch was hidden.
            ids_predicted: (batch, predicted), which patches `logits` are of; all of them where it is `None`.

        Raises:
            ValueError: the loss is that of hidden patches, and none is hidden.
        """
        target = patchify(original, self.config.patch_size)
        counted = None
        if self.config.loss_on == "masked":
            check_hides(self.config.mask_ratio, mask.shape[1])
            counted = mask
        if ids_predicted is not None:
            target, counted = select(target, ids_predicted), None
        return reconstruction_loss(logits, target, counted, norm_pix=self.config.norm_pix_loss)

    def unpatchify(self, logits: Tensor, original: Tensor) -> Tensor:
        """Predicted patches, `logits`, as a stack like `original`, (batch, K, channels, H, W).

        Under `norm_pix_loss` the prediction is relative to each patch's mean and deviation, taken from `original`.
        """
        if self.config.norm_pix_loss:
            _, mean, deviation = normalise_patches(at_least_float32(patchify(original, self.config.patch_size)))
            logits = logits * deviation + mean
        _, frames, _, height, width = original.shape
        return unpatchify(logits, self.config.patch_size, frames=frames, size=(height, width))


class CMMixerForRetrieval(CMMixerPreTrainedModel):
    """Two encoders, both copies of the pre-trained one, trained with InfoNCE over segments (Eq. 2, §3.4).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForRetrieval(CMMixerConfig(**small))
    >>> model.get_video_features(torch.randn(2, 8, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 8, 32])
    """

    _new_weights = (r"^log_temperature$",)  # it starts at the configured temperature

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.video_model = CMMixerModel(config)
        self.audio_model = CMMixerModel(config)
        if config.learnable_temperature:
            self.log_temperature = nn.Parameter(torch.zeros(()))
        self.post_init()

    @classmethod
    def from_encoder_pretrained(cls, pretrained_model_name_or_path: str, **kwargs: Any) -> "CMMixerForRetrieval":
        """Both towers from one pre-trained encoder, whatever head the checkpoint has.

        Args:
            pretrained_model_name_or_path: Hub name or folder of a saved [`CMMixerForPreTraining`] or [`CMMixerModel`].
            kwargs: passed to [`CMMixerModel.from_pretrained`]; configuration fields among them are overridden.

        Raises:
            MissingWeightsError: the checkpoint lacks weights of the encoder, as that of a retrieval model does.
        """
        return cls.from_encoder(CMMixerModel.from_pretrained(pretrained_model_name_or_path, **kwargs))

    @classmethod
    def from_encoder(cls, encoder: CMMixerModel) -> "CMMixerForRetrieval":
        """Both towers as copies of `encoder`, in its mode; later changes to one change neither."""
        model = cls(copy.deepcopy(encoder.config))
        model.video_model.load_state_dict(encoder.state_dict())
        model.audio_model.load_state_dict(encoder.state_dict())
        model.train(encoder.training)
        return model.to(device=encoder.device, dtype=encoder.dtype)  # type: ignore[call-arg]

    def get_input_embeddings(self) -> nn.Module:
        """The video tower's patch embeddings."""
        return self.video_model.patch_embeddings

    @can_return_tuple
    def get_video_features(self, pixel_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> CMMixerFeatures:
        """Embed frames, (batch, K, channels, H, W); in training those tokens that [`draw_tokens`] keeps."""
        options = kwargs if "noise" in kwargs else self.draw_tokens(pixel_values) | kwargs
        encoded = self.video_model(pixel_values=pixel_values, return_dict=True, **options)
        return _features(encoded, segments=pixel_values.shape[1])

    @can_return_tuple
    def get_audio_features(self, audio_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> CMMixerFeatures:
        """Embed spectrograms, (batch, K, channels, H, W), likewise."""
        options = kwargs if "noise" in kwargs else self.draw_tokens(audio_values) | kwargs
        encoded = self.audio_model(audio_values=audio_values, return_dict=True, **options)
        return _features(encoded, segments=audio_values.shape[1])

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
        video = self._embed(self.get_video_features, pixel_values, **kwargs)
        audio = self._embed(self.get_audio_features, audio_values, **kwargs)
        segments = video["segment_embeds"], audio["segment_embeds"]
        logits = segment_similarity(*segments) / self.temperature
        loss = self.contrastive_loss(*segments, track_id) if return_loss else None
        return CMMixerForRetrievalOutput.from_features(video, audio, logits=logits, loss=loss)

    @property
    def temperature(self) -> Tensor | float:
        """τ of Eq. 2, the configured one or what it has become in training."""
        if self.config.learnable_temperature:
            return at_least_float32(self.log_temperature).exp()
        return self.config.temperature

    def contrastive_loss(self, video: Tensor, audio: Tensor, track_id: Tensor | None = None) -> Tensor:
        """[`info_nce`] with the configured temperature and direction.

        Args:
            video, audio: segment embeddings, (batch, K, hidden), each L2-normalised.
            track_id: (batch,) integers; clips that share a track are positives of one another.
        """
        return info_nce(video, audio, self.temperature, track_id=track_id, direction=self.config.contrastive_direction)

    def draw_tokens(self, stack: Tensor) -> dict[str, Any]:
        """In training, which tokens a tower sees, as arguments of its forward; none where it sees all.

        Args:
            stack: frames or spectrograms, (batch, K, channels, H, W).
        """
        if not (self.training and self.config.token_drop_rate):
            return {}
        stack = check_stack(stack, self.config.patch_size, self.config.num_channels)
        noise = masking_noise(None, len(stack), count_tokens(stack, self.config), device=stack.device)
        return {"noise": even_noise(noise, stack.shape[1]), "mask_ratio": self.config.token_drop_rate}

    def _embed(self, features: Callable[..., CMMixerFeatures], stack: Tensor, **kwargs) -> CMMixerFeatures:
        """`features` of a stack, `embed_chunk_size` clips at a time; then the stack may lie on another device.

        Raises:
            ValueError: chunks, which keep embeddings alone, are to give hidden states or attentions.
        """
        if self.config.embed_chunk_size is None:
            return features(stack, return_dict=True, **kwargs)
        for name in ("output_hidden_states", "output_attentions"):
            if kwargs.get(name, getattr(self.config, name, False)):
                raise ValueError(f"{name} keeps what embed_chunk_size={self.config.embed_chunk_size} is there to drop")

        def embed(chunk: Tensor) -> tuple[Tensor, Tensor]:
            embedded = features(chunk.to(self.device), return_dict=True, **kwargs)
            return embedded["pooler_output"], embedded["segment_embeds"]

        chunks = [checkpoint(embed, chunk, use_reentrant=False) for chunk in stack.split(self.config.embed_chunk_size)]
        pooled, segments = zip(*chunks, strict=True)
        return CMMixerFeatures(torch.cat(pooled), torch.cat(segments))


class CMMixerForClassification(CMMixerPreTrainedModel):
    """Base of both classifiers: the mean of the patch tokens, and a linear layer on it."""

    # Trainer would take a loss with **kwargs for one that divides by the number of items, which BCE does not.
    accepts_loss_kwargs = False
    _keys_to_ignore_on_load_unexpected = [r"^decoders\."]  # noqa: RUF012
    _new_weights = (r"^classifier\.",)

    def __init__(self, config: CMMixerConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.cmmixer = CMMixerModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]  # never None here
        self.post_init()

    def classify(self, encoded: CMMixerModelOutput, labels: Tensor | None) -> SequenceClassifierOutput:
        """Scores of an encoded stack, (batch, labels), and their loss where `labels` are given."""
        logits = self.classifier(encoded["last_hidden_state"][:, 1:].mean(1))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, at_least_float32(logits), self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )


class CMMixerForVideoClassification(CMMixerForClassification):
    """Actions from frames (§4.7).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForVideoClassification(CMMixerConfig(**small, num_labels=5))
    >>> model(pixel_values=torch.randn(2, 8, 3, 32, 32), labels=torch.tensor([0, 4])).logits.shape
    torch.Size([2, 5])
    """

    input_modalities = ["video"]  # noqa: RUF012

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> SequenceClassifierOutput:
        """Score clips.

        Args:
            pixel_values: normalised frames, (batch, K, channels, H, W).
            labels: (batch,) integers for one class each, (batch, labels) of 0. and 1. for any number of classes, or
                floats for regression: `config.problem_type` says which, or where it is unset the labels themselves.
        """
        return self.classify(self.cmmixer(pixel_values=pixel_values, return_dict=True, **kwargs), labels)


class CMMixerForAudioClassification(CMMixerForClassification):
    """Sounds from spectrograms (§4.7).

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CMMixerForAudioClassification(CMMixerConfig(**small, num_labels=5))
    >>> model(audio_values=torch.randn(2, 8, 3, 32, 32)).logits.shape
    torch.Size([2, 5])
    """

    main_input_name = "audio_values"
    input_modalities = ["audio"]  # noqa: RUF012

    @can_return_tuple
    def forward(
        self, audio_values: Tensor | None = None, labels: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> SequenceClassifierOutput:
        """Score clips.

        Args:
            audio_values: normalised spectrograms, (batch, K, channels, H, W).
            labels: as in [`CMMixerForVideoClassification`].
        """
        return self.classify(self.cmmixer(audio_values=audio_values, return_dict=True, **kwargs), labels)


def count_tokens(stack: Tensor, config: CMMixerConfig) -> int:
    """Patches of each clip of a stack (batch, K, channels, H, W)."""
    _, frames, _, height, width = stack.shape
    return frames * (height // config.patch_size) * (width // config.patch_size)


def stack_positions(stack: Tensor, config: CMMixerConfig, dim: int) -> Tensor:
    """Positions of a stack's tokens, (1, tokens, dim)."""
    _, frames, _, height, width = stack.shape
    grid = height // config.patch_size, width // config.patch_size
    return sincos_positions(frames, grid, dim, device=stack.device)[None]


def _features(encoded: CMMixerModelOutput, segments: int) -> CMMixerFeatures:
    """P_{i,l}: the mean of frame l's tokens after the final norm, of those that the encoder saw."""
    tokens = encoded["last_hidden_state"][:, 1:]
    if encoded.get("mask") is None:
        segment_means = tokens.unflatten(1, (segments, -1)).mean(2)
    else:
        everywhere = restore(tokens, tokens.new_zeros(1, 1, tokens.shape[-1]), encoded["ids_restore"])
        seen = (1 - encoded["mask"]).to(tokens.dtype).unflatten(1, (segments, -1)).sum(2)
        segment_means = everywhere.unflatten(1, (segments, -1)).sum(2) / seen.clamp(min=1).unsqueeze(-1)
    return CMMixerFeatures(
        pooler_output=pool_segments(segment_means)[:, 0],
        segment_embeds=nn.functional.normalize(segment_means, dim=-1),
        last_hidden_state=encoded.last_hidden_state,
        hidden_states=encoded.hidden_states,
        attentions=encoded.attentions,
    )


__all__ = [
    "CMMixerForAudioClassification",
    "CMMixerForPreTraining",
    "CMMixerForRetrieval",
    "CMMixerForVideoClassification",
    "CMMixerModel",
    "CMMixerPreTrainedModel",
]
