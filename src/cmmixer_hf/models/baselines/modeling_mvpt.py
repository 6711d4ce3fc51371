"""MVPt: sequences of frozen segment features, one Transformer a modality, InfoNCE (Table 2 of the paper).

Surís, Vondrick, Russell and Salamon: It's Time for Artistic Correspondence in Music and Video, CVPR 2022
(arXiv 2206.07148). Both signals are cut into segments; a pre-trained network describes each; a Transformer for each
modality adds the long-term context; equal places of one clip are pulled together, all other segments pushed away. The
strongest baseline of CMMixer, which trains the very loss, its Eq. 2 (`losses.info_nce`):

    −log exp(cos(v_il, m_il) / τ) / Σ_{j, l′} exp(cos(v_il, m_jl′) / τ), mean over segments (i, l) and both directions

Verified in the abstract: features, a Transformer a modality, long-term context, no labels. Not verified: τ (here
CMMixer's 0.3, §3.4), sizes (here 256 × 2 with 4 heads), which similarity.

Left out or changed: CLIP for frames and DeepSim for music, for which any encoder may stand, our own by default; their
segments of a fixed length, which here are K parts of the clip; positions are sines and cosines, so that any K works;
features are standardised.
"""

from huggingface_hub.dataclasses import strict
from torch import Tensor, nn

from ..layers import CMMixerLayer
from ..losses import info_nce
from ..patching import sincos_positions
from .modeling_baseline import BaselineConfig, BaselineForRetrieval, register


@strict
class MVPtConfig(BaselineConfig):
    r"""Configuration of [`MVPtForRetrieval`].

    Args:
        embedding_size (`int`, defaults to 256): width of the Transformers and of the embeddings; a multiple of 4.
        num_hidden_layers, num_attention_heads, intermediate_size (`int`): of either Transformer.
        hidden_act, layer_norm_eps, qkv_bias: as in [`CMMixerConfig`].
        hidden_dropout_prob, attention_probs_dropout_prob (`float`): likewise.
        temperature (`float`, defaults to 0.3): τ.
    """

    model_type = "mvpt"

    embedding_size: int = 256
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    intermediate_size: int = 1024
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    qkv_bias: bool = True
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.0
    temperature: float | int = 0.3

    def validate_sizes(self) -> None:
        """Refuse a width that does not divide."""
        for name, parts in {"num_attention_heads": self.num_attention_heads, "the parts of a position": 4}.items():
            if self.embedding_size % parts:
                raise ValueError(f"embedding_size ({self.embedding_size}) must be a multiple of {name} ({parts})")


class MVPtForRetrieval(BaselineForRetrieval):
    """One Transformer a modality over K segment features; one embedding a segment.

    Example:

    >>> import torch
    >>> features = {"video_features": {"source": "colour_statistics"}, "audio_features": {"source": "mel_statistics"}}
    >>> model = MVPtForRetrieval(MVPtConfig(**features))
    >>> model.get_video_features(torch.randn(2, 8, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 8, 256])
    """

    config: MVPtConfig
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: MVPtConfig):
        super().__init__(config)
        self.video_tower = SegmentTransformer(self.video_features.size, config)
        self.audio_tower = SegmentTransformer(self.audio_features.size, config)
        self.post_init()

    def ranking_loss(
        self, features: tuple[Tensor, Tensor], embeddings: tuple[Tensor, Tensor], track_id: Tensor | None
    ) -> Tensor:
        """InfoNCE over all segments of the global batch."""
        return info_nce(*embeddings, self.config.temperature, track_id=track_id)


class SegmentTransformer(nn.Module):
    """Linear projection, positions, pre-norm layers, norm, L2."""

    def __init__(self, feature_size: int, config: MVPtConfig):
        super().__init__()
        width = config.embedding_size
        self.projection = nn.Linear(feature_size, width)
        self.layers = nn.ModuleList(
            CMMixerLayer(config, width, config.num_attention_heads, intermediate_size=config.intermediate_size)
            for _ in range(config.num_hidden_layers)
        )
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, K, feature size) → (batch, K, embedding size), L2-normalised."""
        hidden_states = self.projection(features)
        positions = sincos_positions(features.shape[1], (1, 1), hidden_states.shape[-1], device=features.device)
        hidden_states = hidden_states + positions.to(hidden_states.dtype)
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return nn.functional.normalize(self.layernorm(hidden_states), dim=-1)


__all__ = ["MVPtConfig", "MVPtForRetrieval"]


register(MVPtConfig, MVPtForRetrieval)
