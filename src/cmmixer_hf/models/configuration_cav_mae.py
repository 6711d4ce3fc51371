"""Configuration of the CAV-MAE models (Gong et al., ICLR 2023, arXiv 2210.07839)."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_cmmixer import (
    LAYER_SIZES,
    LOSS_DIRECTIONS,
    CMMixerConfig,
    check_amounts,
    check_choices,
    check_divisible,
    check_widths,
)
from .masking import MASK_STRUCTURES, check_hides

STREAMS = ("joint", "audio", "video")


@strict
class CAVMAEConfig(PreTrainedConfig):
    r"""Configuration of [`CAVMAEModel`] and its heads. The defaults are the published CAV-MAE.

    Args:
        image_size (`int`, defaults to 224): height and width of a frame. The models accept any size that the patch
            divides; this is the one the feature extractor makes.
        patch_size (`int`, defaults to 16): side of a square patch, of frames in pixels.
        num_channels (`int`, defaults to 3): of a frame; a spectrogram has one.
        num_frames (`int`, defaults to 10): K, frames of a clip, of which training draws one. The models accept any.
        audio_length (`int`, defaults to 1024): time steps of a spectrogram, one every 10 ms. The models accept any
            length that the patch divides; this is the one the feature extractor makes.
        num_mel_bins (`int`, defaults to 128): frequencies of a spectrogram.
        hidden_size, num_attention_heads, intermediate_size: every layer of the encoder.
        num_hidden_layers (`int`, defaults to 12): layers that a token passes.
        num_joint_layers (`int`, defaults to 1): how many of them, the last ones, both modalities share. Several joint
            layers follow one another here, as in the released fine-tuning; the released pre-training starts each of
            them from the first one's input, so that only the last has an effect. With the published 1 there is no
            difference.
        hidden_act (`str`, defaults to `"gelu"`): of every layer.
        layer_norm_eps (`float`, defaults to 1e-5): likewise.
        qkv_bias (`bool`, defaults to `True`): whether the projections to queries, keys and values have a bias.
        hidden_dropout_prob, attention_probs_dropout_prob (`float`, defaults to 0.0): likewise.
        initializer_range (`float`, defaults to 0.02): standard deviation of the modality and mask tokens at the start.
        learned_positions (`bool`, defaults to `False`): train what positions differ by from the computed sine-cosine
            ones, as the published fine-tuning does.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: the
            decoder, 512 × 8 with 16 heads.
        mask_ratio (`float`, defaults to 0.75): share of each modality's tokens that the encoder does not see.
        audio_mask_structure (`"unstructured"`, `"time"`, `"frequency"` or `"time_frequency"`): whether single tokens of
            a spectrogram are hidden, or whole columns, rows or both.
        norm_pix_loss (`bool`, defaults to `True`): reconstruct patches normalised by their own mean and variance, as
            in the paper's reconstruction loss and every published recipe but that for inpainting, which needs `False`.
        reconstruction_weight (`float`, defaults to 1.0): of the reconstruction loss; 0 leaves CAV, without a decoder.
        contrastive_weight (`float`, defaults to 0.01): λ_c of the contrastive loss (Eq. 7); 0 leaves AV-MAE.
        temperature (`float`, defaults to 0.05): τ of the contrastive loss.
        contrastive_direction (`"video_to_audio"` or `"symmetric"`): each video among all audios, as published, or both.
        classifier_stream (`"joint"`, `"audio"` or `"video"`): input of [`CAVMAEForAudioVisualClassification`].

    Example:

    >>> config = CAVMAEConfig(num_joint_layers=2)
    >>> config.hidden_size, config.num_hidden_layers - config.num_joint_layers
    (768, 10)
    """

    model_type = "cav_mae"
    keys_to_ignore_at_inference = [  # noqa: RUF012 - Trainer adds a list to it
        *CMMixerConfig.keys_to_ignore_at_inference,
        *("contrastive_loss", "video_mask", "audio_mask", "frame"),
    ]

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 10
    audio_length: int = 1024
    num_mel_bins: int = 128
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_joint_layers: int = 1
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    learned_positions: bool = False
    decoder_hidden_size: int = 512
    decoder_num_hidden_layers: int = 8
    decoder_num_attention_heads: int = 16
    decoder_intermediate_size: int = 2048
    mask_ratio: float | int = 0.75
    audio_mask_structure: str = "unstructured"
    norm_pix_loss: bool = True
    reconstruction_weight: float | int = 1.0
    contrastive_weight: float | int = 0.01
    temperature: float | int = 0.05
    contrastive_direction: str = "video_to_audio"
    classifier_stream: str = "joint"

    def validate_choices(self) -> None:
        """Refuse a word that names no mask, direction or stream."""
        choices = {
            "audio_mask_structure": tuple(MASK_STRUCTURES),
            "contrastive_direction": LOSS_DIRECTIONS,
            "classifier_stream": STREAMS,
        }
        check_choices(self, choices)

    def validate_amounts(self) -> None:
        """Refuse amounts below 1, by which others are divided; validators run in the order of their names."""
        inputs = ("image_size", "patch_size", "num_channels", "num_frames", "audio_length", "num_mel_bins")
        check_amounts(self, (*inputs, *LAYER_SIZES))

    def validate_sizes(self) -> None:
        """Refuse sizes that do not divide, and more joint layers than layers."""
        check_widths(self)
        for name in ("image_size", "audio_length", "num_mel_bins"):
            check_divisible(name, getattr(self, name), "patch_size", self.patch_size)
        if not 1 <= self.num_joint_layers <= self.num_hidden_layers:
            raise ValueError(
                f"num_joint_layers must lie in 1..num_hidden_layers ({self.num_hidden_layers}), "
                f"got {self.num_joint_layers}"
            )

    def validate_ranges(self) -> None:
        """Refuse numbers out of their range."""
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {self.mask_ratio}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        weights = (self.reconstruction_weight, self.contrastive_weight)
        if min(weights) < 0 or not any(weights):
            raise ValueError(f"loss weights must not be negative nor all 0, got {weights}")

    def validate_masking(self) -> None:
        """Refuse a mask that hides no patch of a frame or of a spectrogram, where both are reconstructed."""
        if self.reconstruction_weight:
            check_hides(self.mask_ratio, (self.image_size // self.patch_size) ** 2, "patches of a frame")
            tokens = (self.audio_length // self.patch_size) * (self.num_mel_bins // self.patch_size)
            check_hides(self.mask_ratio, tokens, "patches of a spectrogram")


__all__ = ["CAVMAEConfig"]
