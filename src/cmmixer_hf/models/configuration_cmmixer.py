"""Configuration of the CMMixer models (arXiv 2308.13820)."""

from collections.abc import Mapping, Sequence

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .masking import check_hides
from .mixing import check_mixer

DECODER_TYPES = ("solo", "duet")
LOSS_REGIONS = ("masked", "all")
LOSS_DIRECTIONS = ("symmetric", "video_to_audio")
LAYER_SIZES = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"),
    *("decoder_hidden_size", "decoder_num_hidden_layers", "decoder_num_attention_heads", "decoder_intermediate_size"),
)


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
        hidden_act (`str`, defaults to `"gelu"`): of every layer.
        layer_norm_eps (`float`, defaults to 1e-6): likewise.
        qkv_bias (`bool`, defaults to `True`): whether the projections to queries, keys and values have a bias.
        hidden_dropout_prob, attention_probs_dropout_prob (`float`, defaults to 0.0): likewise.
        drop_path_rate (`float`, defaults to 0.0): stochastic depth of the encoder's last layer, rising linearly from 0
            at the first; an option of fine-tuning.
        initializer_range (`float`, defaults to 0.02): standard deviation of the cls and mask tokens at the start.
        decoder_type (`"solo"` or `"duet"`): one decoder with two heads, or one decoder a modality (§4.6). Not called
            `decoder`: transformers takes a field of that name for a sub-configuration.
        decoder_hidden_size, decoder_num_hidden_layers, decoder_num_attention_heads, decoder_intermediate_size: each
            decoder; 256 × 4 with 4 heads of 64 gives the parameters of the paper's Table 3.
        mixer (`"cutmix"`, `"pixel"` or `"mixup"`): how M of Eq. 1 is drawn (§3.2).
        mixer_kwargs (`dict`, *optional*): keywords of the mixer's function in `mixing.py`.
        mask_ratio (`float`, defaults to 0.5): share of the tokens that the encoder does not see (§4.3).
        norm_pix_loss (`bool`, defaults to `False`): reconstruct patches normalised by their own mean and variance.
        loss_on (`"masked"` or `"all"`): patches that enter the reconstruction loss.
        decoded_share (`float`, defaults to 1.0): share of the hidden patches that the decoder sees and predicts in
            training, another part of them at every step (VideoMAE V2, arXiv 2303.16727); needs `loss_on="masked"`.
        temperature (`float`, defaults to 0.3): τ of Eq. 2.
        learnable_temperature (`bool`, defaults to `False`): train τ from that start.
        embed_chunk_size (`int`, *optional*): clips that a tower of the retriever embeds at a time. Their activations
            are computed again in the backward pass (GradCache), so that a batch of thousands of pairs trains in the
            memory of one chunk; loss and gradients stay the same.
        token_drop_rate (`float`, defaults to 0.0): share of the tokens of every segment that a tower of the retriever
            leaves out in training, at random (FLIP, arXiv 2212.00794); at 0.5 a step costs less than half.
        contrastive_direction (`"symmetric"` or `"video_to_audio"`): both directions, or Eq. 2 as printed.

    Example:

    >>> config = CMMixerConfig(decoder_type="duet", mixer="pixel")
    >>> config.hidden_size, config.decoder_hidden_size
    (768, 256)
    """

    model_type = "cmmixer"
    # Evaluation concatenates what a model returns over batches; only embeddings and class scores are meant to be.
    keys_to_ignore_at_inference = [  # noqa: RUF012 - Trainer adds a list to it
        *("video_loss", "audio_loss", "video_logits", "audio_logits", "ids_predicted", "mask", "ids_restore"),
        *("mixing_mask", "logits_per_video", "logits_per_audio", "last_hidden_state", "hidden_states", "attentions"),
        *("audio_hidden_states", "audio_attentions"),
    ]

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
    drop_path_rate: float | int = 0.0
    initializer_range: float = 0.02
    decoder_type: str = "solo"
    decoder_hidden_size: int = 256
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    decoder_intermediate_size: int = 1024
    mixer: str = "cutmix"
    mixer_kwargs: dict | None = None
    mask_ratio: float | int = 0.5
    norm_pix_loss: bool = False
    loss_on: str = "masked"
    decoded_share: float | int = 1.0
    temperature: float | int = 0.3
    learnable_temperature: bool = False
    token_drop_rate: float | int = 0.0
    contrastive_direction: str = "symmetric"
    embed_chunk_size: int | None = None

    def validate_choices(self) -> None:
        """Refuse a word that names no decoder, loss region, direction or mixer, and options that the mixer lacks."""
        choices = {"decoder_type": DECODER_TYPES, "loss_on": LOSS_REGIONS, "contrastive_direction": LOSS_DIRECTIONS}
        check_choices(self, choices)
        check_mixer(self.mixer, self.mixer_kwargs or {})

    def validate_amounts(self) -> None:
        """Refuse amounts below 1, by which others are divided; validators run in the order of their names."""
        check_amounts(self, ("image_size", "patch_size", "num_channels", "num_frames", *LAYER_SIZES))

    def validate_sizes(self) -> None:
        """Refuse sizes that do not divide."""
        check_widths(self)
        for size in self.image_height_width:
            check_divisible("image_size", size, "patch_size", self.patch_size)

    def validate_ranges(self) -> None:
        """Refuse numbers out of their range."""
        for name in ("mask_ratio", "drop_path_rate", "token_drop_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")
        if not 0 < self.decoded_share <= 1 or (self.decoded_share < 1 and self.loss_on != "masked"):
            raise ValueError(f"decoded_share must lie in (0, 1] with loss_on='masked', got {self.decoded_share}")
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.embed_chunk_size is not None and self.embed_chunk_size < 1:
            raise ValueError(f"embed_chunk_size must be at least 1, got {self.embed_chunk_size}")

    def validate_masking(self) -> None:
        """Refuse a mask that hides no patch, where the loss is that of hidden patches."""
        height, width = (side // self.patch_size for side in self.image_height_width)
        tokens = self.num_frames * height * width
        if self.loss_on == "masked":
            check_hides(self.mask_ratio, tokens)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width


def check_choices(config: PreTrainedConfig, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a field that holds none of the words allowed for it."""
    for name, allowed in choices.items():
        if getattr(config, name) not in allowed:
            raise ValueError(f"{name} must be one of {allowed}, got {getattr(config, name)!r}")


def check_amounts(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Refuse numbers of pixels, layers and the like that are below 1, and a size that has not two sides."""
    for name in names:
        value = getattr(config, name)
        sides = value if isinstance(value, (list, tuple)) else (value, value)
        if len(sides) != 2 or min(sides) < 1:
            raise ValueError(f"{name} must be at least 1, and a size (height, width) or one number, got {value}")


def check_widths(config: PreTrainedConfig) -> None:
    """Refuse widths of encoder and decoder that their heads, or the parts of a position, do not divide."""
    for part in ("", "decoder_"):
        name, width, heads = f"{part}hidden_size", getattr(config, f"{part}hidden_size"), f"{part}num_attention_heads"
        check_divisible(name, width, heads, getattr(config, heads))
        check_divisible(name, width, "the 4 parts of a sine-cosine position", 4)


def check_divisible(name: str, value: int, divisor_name: str, divisor: int) -> None:
    """Refuse a size that another does not divide."""
    if value % divisor:
        raise ValueError(f"{name} ({value}) must be a multiple of {divisor_name} ({divisor})")


__all__ = ["CMMixerConfig"]
