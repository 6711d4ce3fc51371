"""CAV-MAE (Gong et al., ICLR 2023): contrastive audio-visual masked autoencoder, retrieval and classification.

A clip is one sound and K frames: training shows one frame of each clip, inference averages over all of them.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .configuration_cav_mae import STREAMS, CAVMAEConfig
from .layers import CMMixerAttention, CMMixerLayer
from .layers_cav_mae import (
    INPUTS,
    TOKEN_ORDER,
    CAVMAEBranch,
    CAVMAEDecoder,
    CAVMAEJointLayer,
    CAVMAEPositions,
    patch_grid,
    spectrogram_stack,
    stream_norms,
)
from .losses import at_least_float32, info_nce, normalise_patches, reconstruction_loss
from .masking import check_hides, masking_noise, random_masking, structure_noise
from .outputs import CAVMAEForPreTrainingOutput, CAVMAEModelOutput, CMMixerFeatures, CMMixerForRetrievalOutput
from .patching import check_stack, patchify, unpatchify
from .safe_loading import SafePreTrainedModel
from .similarity import segment_similarity


class CAVMAEPreTrainedModel(SafePreTrainedModel):
    """Base of all CAV-MAE models: configuration, initialisation, loading and saving."""

    config: CAVMAEConfig
    base_model_prefix = "cav_mae"
    main_input_name = "pixel_values"
    input_modalities = ["video", "audio"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _new_weights: ClassVar[tuple[str, ...]] = (r"\.offsets$",)  # learned positions start at zero
    _no_split_modules = ["CMMixerLayer", "CAVMAEJointLayer"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {  # noqa: RUF012
        # Two of them, because the layers of several streams run: no index counts those of one from the end.
        "hidden_states": [OutputRecorder(CMMixerLayer, layer_name="branches"), OutputRecorder(CAVMAEJointLayer)],
        "attentions": CMMixerAttention,
    }

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """MAE's initialisation: Xavier for linear layers, normal for the modality and mask tokens."""
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.xavier_uniform_(module.weight)
        elif isinstance(module, CAVMAEPositions):
            init.normal_(module.modality_token, std=self.config.initializer_range)
            if module.offsets is not None:
                init.zeros_(module.offsets)
        elif isinstance(module, CAVMAEDecoder):
            init.normal_(module.mask_token, std=self.config.initializer_range)

    def get_input_embeddings(self) -> nn.Module:
        """The projection of patches, that of sound where there are two."""
        return next(module for name, module in self.named_modules() if name.endswith(".projection"))


class CAVMAEModel(CAVMAEPreTrainedModel):
    """The encoder: layers for each modality, then layers that both share. It never masks unless asked.

    Args:
        config ([`CAVMAEConfig`]): sizes.
        streams: which passes through the joint layers the model has norms for, of `"joint"` (sound and frame together),
            `"audio"` and `"video"`; a modality that none of them takes has no layers either.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CAVMAEModel(CAVMAEConfig(**small))
    >>> output = model(pixel_values=torch.randn(2, 10, 3, 32, 48), audio_values=torch.randn(2, 64, 128))
    >>> output.video_hidden_state.shape, output.audio_hidden_state.shape, output.last_hidden_state.shape
    (torch.Size([2, 60, 32]), torch.Size([2, 32, 32]), torch.Size([2, 380, 32]))
    """

    def __init__(self, config: CAVMAEConfig, streams: tuple[str, ...] = STREAMS):
        super().__init__(config)
        if not streams or set(streams) - set(STREAMS):
            raise ValueError(f"streams must be some of {STREAMS}, got {streams}")
        self.streams = tuple(stream for stream in STREAMS if stream in streams)
        modalities = [name for name in TOKEN_ORDER if any(name in INPUTS[stream] for stream in self.streams)]
        self.branches = nn.ModuleDict({modality: CAVMAEBranch(config, modality) for modality in modalities})
        self.joint_layers = nn.ModuleList(
            CAVMAEJointLayer(config, self.streams) for _ in range(config.num_joint_layers)
        )
        self.layernorm = stream_norms(config, self.streams)
        self._keys_to_ignore_on_load_unexpected = self._unused_keys()
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        video_noise: Tensor | None = None,
        audio_noise: Tensor | None = None,
        mask_ratio: float | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CAVMAEModelOutput:
        """Encode frames, sound or both, in every stream whose modalities are given.

        Args:
            pixel_values: normalised frames, (batch, K, channels, H, W); H and W multiples of the patch.
            audio_values: normalised spectrograms, (batch, time, mel bins); both multiples of the patch.
            video_noise, audio_noise: (batch · K, tokens) and (batch, tokens) in [0, 1) for the choice of masked tokens;
                drawn when absent.
            mask_ratio: share of each modality's tokens to hide, in [0, 1); `None` hides none.
        """
        stacks = self._stacks(pixel_values, audio_values)
        noise = {"audio": audio_noise, "video": video_noise}
        tokens: dict[str, Tensor] = {}
        masks: dict[str, Any] = {}
        for modality, stack in stacks.items():
            ids_keep = None
            if mask_ratio is not None:
                ids_keep, ids_restore, mask = self._mask(modality, stack, noise[modality], mask_ratio)
                masks |= {f"{modality}_ids_restore": ids_restore, f"{modality}_mask": mask}
            tokens[modality] = self.branches[modality](stack, ids_keep, **kwargs)
        frames = 1 if pixel_values is None else pixel_values.shape[1]
        streams = {
            stream: self._pass(stream, tokens, frames, **kwargs)
            for stream in self.streams
            if all(modality in tokens for modality in INPUTS[stream])
        }
        return CAVMAEModelOutput(
            last_hidden_state=next(iter(streams.values())),
            video_hidden_state=streams.get("video"),
            audio_hidden_state=streams.get("audio"),
            **masks,
        )

    def _unused_keys(self) -> list[str]:
        """Patterns of a checkpoint's weights for streams that this model lacks, and for heads."""
        streams = [stream for stream in STREAMS if stream not in self.streams]
        modalities = [modality for modality in TOKEN_ORDER if modality not in self.branches]
        norms = [rf"(^|\.)layernorm(_before|_after)?\.{stream}\." for stream in streams]
        branches = [rf"(^|\.)branches\.{modality}\." for modality in modalities]
        return [r"^(decoder|classifier)\.", r"^layernorm\.(weight|bias)$", *norms, *branches]

    def _stacks(self, pixel_values: Tensor | None, audio_values: Tensor | None) -> dict[str, Tensor]:
        """The given stacks, each frame a clip of its own, (batch, 1, channels, H, W); sound first."""
        stacks: dict[str, Tensor] = {}
        if audio_values is not None:
            stacks["audio"] = spectrogram_stack(audio_values, self.config)
        if pixel_values is not None:
            checked = check_stack(pixel_values, self.config.patch_size, self.config.num_channels)
            stacks["video"] = checked.flatten(0, 1)[:, None]
        if not any(set(INPUTS[stream]) <= set(stacks) for stream in self.streams) or set(stacks) - set(self.branches):
            takes = " or ".join(" with ".join(INPUTS[stream]) for stream in self.streams)
            raise ValueError(f"this model takes {takes}, got {' with '.join(stacks) or 'neither'}")
        if pixel_values is not None and audio_values is not None and pixel_values.shape[0] != audio_values.shape[0]:
            raise ValueError(
                f"got frames of {pixel_values.shape[0]} clips and sound of {audio_values.shape[0]}: give as many"
            )
        return stacks

    def _mask(
        self, modality: str, stack: Tensor, noise: Tensor | None, mask_ratio: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As [`random_masking`]; sound may lose whole lines of its grid."""
        grid = patch_grid(stack, self.config.patch_size)
        noise = masking_noise(noise, stack.shape[0], grid[0] * grid[1], device=stack.device)
        if modality == "audio":
            noise = structure_noise(noise, grid, mask_ratio, self.config.audio_mask_structure)
        return random_masking(noise, mask_ratio)

    def _pass(self, stream: str, tokens: dict[str, Tensor], frames: int, **kwargs) -> Tensor:
        """One pass through the joint layers; a clip's frames come out one after the other."""
        if stream == "joint":
            hidden_states = torch.cat([tokens["audio"].repeat_interleave(frames, 0), tokens["video"]], 1)
        else:
            hidden_states = tokens[stream]
        for layer in self.joint_layers:
            hidden_states = layer(hidden_states, stream, **kwargs)
        hidden_states = self.layernorm[stream](hidden_states)
        return hidden_states if stream == "audio" else hidden_states.unflatten(0, (-1, frames)).flatten(1, 2)


class CAVMAEForPreTraining(CAVMAEPreTrainedModel):
    """Hide three quarters of a frame and of its sound, reconstruct both, and pull the means of a pair together.

    With `contrastive_weight=0` it is AV-MAE, with `reconstruction_weight=0` it is CAV.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CAVMAEForPreTraining(CAVMAEConfig(**small))
    >>> output = model(pixel_values=torch.randn(2, 10, 3, 32, 32), audio_values=torch.randn(2, 64, 128))
    >>> output.loss.shape, output.video_logits.shape, output.audio_logits.shape
    (torch.Size([]), torch.Size([2, 4, 768]), torch.Size([2, 32, 256]))
    """

    def __init__(self, config: CAVMAEConfig):
        super().__init__(config)
        weights = {"joint": config.reconstruction_weight}
        weights |= dict.fromkeys(TOKEN_ORDER, config.contrastive_weight)
        self.cav_mae = CAVMAEModel(config, streams=tuple(stream for stream, weight in weights.items() if weight))
        self.decoder = CAVMAEDecoder(config) if config.reconstruction_weight else None
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        frame: Tensor | None = None,
        video_noise: Tensor | None = None,
        audio_noise: Tensor | None = None,
        track_id: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CAVMAEForPreTrainingOutput:
        """Reconstruct one frame of each clip and its sound from a quarter of their patches, and contrast them.

        Args:
            pixel_values: normalised frames, (batch, K, channels, H, W).
            audio_values: normalised spectrograms, (batch, time, mel bins).
            frame: (batch,) integers, the frame of each clip to show; drawn when absent.
            video_noise, audio_noise: (batch, tokens) in [0, 1) for the choice of masked tokens; drawn when absent.
            track_id: (batch,) integers; clips that share a track are positives of one another.
            return_loss: compute the losses.
        """
        if pixel_values is None or audio_values is None:
            raise ValueError("pre-training needs both pixel_values and audio_values")
        frame = draw_frame(pixel_values) if frame is None else frame
        shown = pick_frame(pixel_values, frame)
        encoded = self.cav_mae(
            shown,
            audio_values,
            video_noise=video_noise,
            audio_noise=audio_noise,
            mask_ratio=self.config.mask_ratio,
            return_dict=True,
            **kwargs,
        )
        outputs: dict[str, Tensor] = {}
        if self.decoder is not None:
            outputs |= self.reconstruct(encoded, {"audio": audio_values, "video": shown}, return_loss=return_loss)
        if self.config.contrastive_weight:
            outputs |= self.contrast(encoded, track_id=track_id, return_loss=return_loss)
        if return_loss:
            outputs["loss"] = self.weigh(outputs)
        return CAVMAEForPreTrainingOutput(
            **outputs,
            video_mask=encoded.video_mask,
            audio_mask=encoded.audio_mask,
            frame=frame,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )

    def reconstruct(
        self, encoded: CAVMAEModelOutput, originals: dict[str, Tensor], *, return_loss: bool
    ) -> dict[str, Tensor]:
        """Predicted patches of both modalities, and with `return_loss` the errors of the hidden ones.

        Args:
            encoded: tokens of the visible patches.
            originals: the targets, `video` (batch, 1, channels, H, W) and `audio` (batch, time, mel bins).
            return_loss: compute the errors.

        Raises:
            ValueError: the mask hides none of so few patches.
        """
        stacks = {modality: self.as_stack(original) for modality, original in originals.items()}
        grids = {modality: patch_grid(stack, self.config.patch_size) for modality, stack in stacks.items()}
        ids_restore = {modality: encoded[f"{modality}_ids_restore"] for modality in TOKEN_ORDER}
        logits = self.decoder(encoded.last_hidden_state, ids_restore, grids)  # type: ignore[misc]
        outputs = {f"{modality}_logits": patches for modality, patches in logits.items()}
        if return_loss:
            for modality, stack in stacks.items():
                target, mask = patchify(stack, self.config.patch_size), encoded[f"{modality}_mask"]
                check_hides(self.config.mask_ratio, mask.shape[1], f"patches of {modality}")
                norm_pix = self.config.norm_pix_loss
                outputs[f"{modality}_loss"] = reconstruction_loss(logits[modality], target, mask, norm_pix=norm_pix)
        return outputs

    def contrast(self, encoded: CAVMAEModelOutput, *, track_id: Tensor | None, return_loss: bool) -> dict[str, Tensor]:
        """Means of the visible tokens of either modality's own pass, and InfoNCE between them (Eq. 7).

        Args:
            encoded: tokens of the visible patches.
            track_id: (batch,) integers, equal for clips that are positives of one another.
            return_loss: compute InfoNCE.
        """
        video, audio = (mean_features(encoded, modality) for modality in ("video", "audio"))
        outputs = {"video_embeds": video["pooler_output"], "audio_embeds": audio["pooler_output"]}
        if return_loss:
            direction, temperature = self.config.contrastive_direction, self.config.temperature
            segments = video["segment_embeds"], audio["segment_embeds"]
            outputs["contrastive_loss"] = info_nce(*segments, temperature, track_id=track_id, direction=direction)
        return outputs

    def weigh(self, losses: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the losses that this configuration has."""
        reconstruction, contrast = self.config.reconstruction_weight, self.config.contrastive_weight
        weights = {"video_loss": reconstruction, "audio_loss": reconstruction, "contrastive_loss": contrast}
        return torch.stack([weight * losses[name] for name, weight in weights.items() if name in losses]).sum()

    def as_stack(self, original: Tensor) -> Tensor:
        """Frames (batch, 1, channels, H, W) as they are, spectrograms (batch, time, mel bins) as such a stack."""
        return spectrogram_stack(original, self.config) if original.ndim == 3 else original

    def unpatchify(self, logits: Tensor, original: Tensor) -> Tensor:
        """Predicted patches, `logits`, in the shape of `original`: (batch, 1, channels, H, W), or `audio_values`.

        Under `norm_pix_loss` the prediction is relative to each patch's mean and deviation, taken from `original`.
        """
        stack = self.as_stack(original)
        if self.config.norm_pix_loss:
            _, mean, deviation = normalise_patches(at_least_float32(patchify(stack, self.config.patch_size)))
            logits = logits * deviation + mean
        height, width = stack.shape[-2:]
        predicted = unpatchify(logits, self.config.patch_size, frames=1, size=(height, width))
        return predicted if original.ndim == 5 else predicted[:, 0, 0].transpose(1, 2)


class CAVMAEForRetrieval(CAVMAEPreTrainedModel):
    """The passes of either modality alone, compared by cosine; loads any CAV-MAE checkpoint that was contrasted.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CAVMAEForRetrieval(CAVMAEConfig(**small)).eval()
    >>> model.get_video_features(torch.randn(2, 10, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 1, 32])
    """

    def __init__(self, config: CAVMAEConfig):
        super().__init__(config)
        self.cav_mae = CAVMAEModel(config, streams=("audio", "video"))
        self.post_init()

    @can_return_tuple
    def get_video_features(
        self, pixel_values: Tensor, frame: Tensor | None = None, **kwargs: Unpack[TransformersKwargs]
    ) -> CMMixerFeatures:
        """Embed frames, (batch, K, channels, H, W), one vector a clip.

        Args:
            pixel_values: normalised frames.
            frame: (batch,) integers, the frame of each clip to embed. When absent, training draws one, and inference
                takes the mean over all.
        """
        seen = see_frames(pixel_values, frame, training=self.training)
        return mean_features(self.cav_mae(pixel_values=seen, return_dict=True, **kwargs), "video")

    @can_return_tuple
    def get_audio_features(self, audio_values: Tensor, **kwargs: Unpack[TransformersKwargs]) -> CMMixerFeatures:
        """Embed spectrograms, (batch, time, mel bins), one vector a clip."""
        return mean_features(self.cav_mae(audio_values=audio_values, return_dict=True, **kwargs), "audio")

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        frame: Tensor | None = None,
        track_id: Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CMMixerForRetrievalOutput:
        """Embed pairs and compare them.

        Args:
            pixel_values, audio_values: as in [`CAVMAEForPreTraining`], paired by position.
            frame: as in [`CAVMAEForRetrieval.get_video_features`].
            track_id: (batch,) integers; clips that share a track are positives of one another.
            return_loss: compute InfoNCE; needs equal batches of both.
        """
        if pixel_values is None or audio_values is None:
            raise ValueError(
                "retrieval compares both modalities; for one, call get_video_features or get_audio_features."
            )
        video = self.get_video_features(pixel_values, frame, return_dict=True, **kwargs)
        audio = self.get_audio_features(audio_values, return_dict=True, **kwargs)
        segments, temperature = (video["segment_embeds"], audio["segment_embeds"]), self.config.temperature
        loss = None
        if return_loss:
            direction = self.config.contrastive_direction
            loss = info_nce(*segments, temperature, track_id=track_id, direction=direction)
        logits = segment_similarity(*segments) / temperature
        return CMMixerForRetrievalOutput.from_features(video, audio, logits=logits, loss=loss)


class CAVMAEForAudioVisualClassification(CAVMAEPreTrainedModel):
    """Events from frames and sound together, or from one of them: `config.classifier_stream` says which.

    Example:

    >>> small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    >>> model = CAVMAEForAudioVisualClassification(CAVMAEConfig(**small, num_labels=5, classifier_stream="audio"))
    >>> model(audio_values=torch.randn(2, 64, 128), labels=torch.tensor([0, 4])).logits.shape
    torch.Size([2, 5])
    """

    # Trainer would take a loss with **kwargs for one that divides by the number of items, which BCE does not.
    accepts_loss_kwargs = False
    _new_weights = (r"^(classifier|layernorm)\.", CAVMAEPreTrainedModel._new_weights[0])

    def __init__(self, config: CAVMAEConfig):
        super().__init__(config)
        self.loss_type = "ForSequenceClassification"
        self.num_labels = config.num_labels
        self.cav_mae = CAVMAEModel(config, streams=(config.classifier_stream,))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)  # type: ignore[arg-type]  # never None here
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        pixel_values: Tensor | None = None,
        audio_values: Tensor | None = None,
        frame: Tensor | None = None,
        labels: Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> SequenceClassifierOutput:
        """Score clips.

        Args:
            pixel_values, audio_values: as in [`CAVMAEForPreTraining`], as far as the stream takes them.
            frame: (batch,) integers, the frame of each clip to score. When absent, training draws one, and inference
                averages the probabilities over all.
            labels: (batch,) integers for one class each, (batch, labels) of 0. and 1. for any number of classes, or
                floats for regression: `config.problem_type` says which, or where it is unset the labels themselves.
        """
        frames = 1
        if pixel_values is not None:
            pixel_values = see_frames(pixel_values, frame, training=self.training)
            frames = pixel_values.shape[1]
        encoded = self.cav_mae(pixel_values=pixel_values, audio_values=audio_values, return_dict=True, **kwargs)
        pooled = encoded.last_hidden_state.unflatten(1, (frames, -1)).mean(2)
        logits = average_scores(self.classifier(self.layernorm(pooled)), self._problem_type(labels))
        loss = None
        if labels is not None:
            loss = self.loss_function(labels, at_least_float32(logits), self.config)
        return SequenceClassifierOutput(
            loss=loss, logits=logits, hidden_states=encoded.hidden_states, attentions=encoded.attentions
        )

    def _problem_type(self, labels: Tensor | None) -> str:
        """The problem type by which the loss is chosen."""
        if self.config.problem_type is not None:
            return self.config.problem_type
        if self.num_labels == 1:
            return "regression"
        several = labels is not None and labels.is_floating_point()
        return "multi_label_classification" if several else "single_label_classification"


def average_scores(scores: Tensor, problem_type: str) -> Tensor:
    """Logits whose probabilities are the means of those of each frame's, (batch, K, labels) → (batch, labels).

    >>> scores = torch.randn(1, 3, 4)
    >>> averaged = average_scores(scores, "multi_label_classification")
    >>> torch.allclose(averaged.sigmoid(), scores.sigmoid().mean(1))
    True
    """
    if scores.shape[1] == 1 or problem_type == "regression":
        return scores.mean(1)
    if problem_type == "single_label_classification":
        return scores.log_softmax(-1).logsumexp(1) - torch.tensor(scores.shape[1]).log()
    log_odds = nn.functional.logsigmoid
    return log_odds(scores).logsumexp(1) - log_odds(-scores).logsumexp(1)


def mean_features(encoded: CAVMAEModelOutput, modality: str) -> CMMixerFeatures:
    """The mean of a clip's tokens after the norm of the modality's own stream, over all its frames, as one segment."""
    tokens = encoded[f"{modality}_hidden_state"]
    mean = nn.functional.normalize(tokens.mean(1), dim=-1)
    return CMMixerFeatures(
        pooler_output=mean,
        segment_embeds=mean[:, None],
        last_hidden_state=tokens,
        hidden_states=encoded.hidden_states,
        attentions=encoded.attentions,
    )


def draw_frame(pixel_values: Tensor) -> Tensor:
    """A random frame of each clip: (batch, K, …) → (batch,) integers below K."""
    return torch.randint(pixel_values.shape[1], (pixel_values.shape[0],), device=pixel_values.device)


def pick_frame(pixel_values: Tensor, frame: Tensor) -> Tensor:
    """The chosen frame of each clip: (batch, K, channels, H, W) → (batch, 1, channels, H, W)."""
    return pixel_values[torch.arange(frame.shape[0], device=frame.device), frame][:, None]


def see_frames(pixel_values: Tensor, frame: Tensor | None, *, training: bool) -> Tensor:
    """The chosen frame of each clip, or a drawn one in training, or all."""
    if frame is None and training:
        frame = draw_frame(pixel_values)
    return pixel_values if frame is None else pick_frame(pixel_values, frame)


__all__ = [
    "CAVMAEForAudioVisualClassification",
    "CAVMAEForPreTraining",
    "CAVMAEForRetrieval",
    "CAVMAEModel",
    "CAVMAEPreTrainedModel",
]
