"""Configuration of the CMMixer models (arXiv 2308.13820)."""

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

DECODERS = ("solo", "duet")
LOSS_REGIONS = ("masked", "all")
DIRECTIONS = ("symmetric", "video_to_audio")


@strict
class CMMixerConfig(PreTrainedConfig):
    r"""Configuration of [`CMMixerModel`] and its heads. The defaults are the paper's ViT-Base Solo model.

    Args:
        image_size (`int` or `[int, int]`, defaults to 224): height and width of frames and spectrograms.
            The models accept any size that the patch divides; this is the one the feature extractor makes.
        patch_size (`int`, defaults to 16): side of a square patch in pixels.
        num_channels (`int`, defaults to 3): channels of a frame; a spectrogram is repeated over them (§4.3).
        num_frames (`int`, defaults to 8): K, segments of a clip (§3.2). The models accept any number.
        hidden_size, num_hidden_layers, num_attention_heads, intermediate_size: the encoder, ViT-Base by default (§4.3).
        hidden_act (`str`, defaults to `"gelu"`), layer_norm_eps (`float`, defaults to 1e-6), qkv_bias (`bool`).
        hidden_dropout_prob, attention_probs_dropout_prob (`float`, defaults to 0.0).
        initializer_range (`float`, defaults to 0.02): standard deviation of the cls and mask tokens at the start.
        decoder (`"solo"` or `"duet"`): one decoder with two heads, or one decoder a modality (§4.6).
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: each
            decoder; 256 × 4 with 4 heads of 64 gives the parameters of the paper's Table 3.
        mixer (`"cutmix"`, `"pixel"` or `"mixup"`): how M of Eq. 1 is drawn (§3.2).
        mixer_kwargs (`dict`, *optional*): keywords of the mixer's function in `mixing.py`.
        mask_ratio (`float`, defaults to 0.5): share of the tokens that the encoder does not see (§4.3).
        norm_pix_loss (`bool`, defaults to `False`): reconstruct patches normalised by their own mean and variance.
        loss_on (`"masked"` or `"all"`): patches that enter the reconstruction loss.
        temperature (`float`, defaults to 0.3): τ of Eq. 2.
        learnable_temperature (`bool`, defaults to `False`): train τ from that start.
        contrastive_direction (`"symmetric"` or `"video_to_audio"`): both directions, or Eq. 2 as printed.

    Example:

    >>> config = CMMixerConfig(decoder="duet", mixer="pixel")
    >>> config.hidden_size, config.decoder_hidden_size
    (768, 256)
    """

    model_type = "cmmixer"
    # Evaluation concatenates what a model returns over batches; only embeddings and class scores are meant to be.
    keys_to_ignore_at_inference = (
        "video_loss",
        "audio_loss",
        "video_logits",
        "audio_logits",
        "mask",
        "ids_restore",
        "mixing_mask",
        "logits_per_video",
        "logits_per_audio",
        "last_hidden_state",
        "hidden_states",
        "attentions",
    )

    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    num_frames: int = 8
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    initializer_range: float = 0.02
    decoder: str = "solo"
    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    mixer: str = "cutmix"
    mixer_kwargs: dict | None = None
    mask_ratio: float | int = 0.5
    norm_pix_loss: bool = False
    loss_on: str = "masked"
    temperature: float | int = 0.3
    learnable_temperature: bool = False
    contrastive_direction: str = "symmetric"

    def validate_choices(self) -> None:
        """Refuse a word that names no decoder, loss region or direction."""
        choices = (("decoder", DECODERS), ("loss_on", LOSS_REGIONS), ("contrastive_direction", DIRECTIONS))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")

    def validate_sizes(self) -> None:
        """Refuse sizes that do not divide, and ratios out of range."""
        _check_divisible("hidden_size", self.hidden_size, "num_attention_heads", self.num_attention_heads)
        heads = self.decoder_num_attention_heads
        _check_divisible("decoder_hidden_size", self.decoder_hidden_size, "decoder_num_attention_heads", heads)
        for size in self.image_height_width:
            _check_divisible("image_size", size, "patch_size", self.patch_size)
        for name in ("hidden_size", "decoder_hidden_size"):
            _check_divisible(name, getattr(self, name), "the 4 parts of a sine-cosine position", 4)
        if not 0 <= self.mask_ratio < 1:
            raise ValueError(f"mask_ratio must lie in [0, 1), got {self.mask_ratio}")
        if self.temperature <= 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width


def _check_divisible(name: str, value: int, divisor_name: str, divisor: int) -> None:
    if value % divisor:
        raise ValueError(f"{name} ({value}) must be a multiple of {divisor_name} ({divisor})")


__all__ = ["CMMixerConfig"]
