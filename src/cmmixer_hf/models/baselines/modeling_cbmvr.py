"""CBMVR, also CBVMR or VM-NET: two branches on pooled features, ranked, with soft structure (Table 2 of the paper).

Hong, Im and Yang: Content-Based Video–Music Retrieval Using Soft Intra-Modal Structure Constraint, ICMR 2018
(arXiv 1704.06761). Each clip becomes one vector: a branch of fully connected layers, batch norm and L2 on features
pooled over time. The loss ranks between modalities and keeps the order of distances within each (`ranking_losses.py`):

    3 · triplet(music → video) + 1 · triplet(video → music) + 0.2 · structure(video) + 0.2 · structure(music)

Verified in the authors' released code (csehong/VM-NET, `train.py`, `embed_*.py`): these weights, cosine, margin 0.1,
the 100 worst violations in batches of 1000 (here the same share), music 2048-1024-512, video 2048-512, dropout 0.1, the
triples of the structure loss, and mean, variance and maximum over time of hand-made music features. There Adam runs at
3e-4. Not verified: how the paper itself writes the losses.

Left out or changed: frames are described by our encoder instead of Inception features of YouTube-8M, and music by
`mel_statistics` instead of 2 × 190 librosa features of its harmonic and percussive parts; each segment is described,
then mean and standard deviation over segments are taken; features are standardised; ReLU stands between layers, which
the released `train.py` switches off (`hidden_act="linear"`).
"""

from functools import partial
from typing import ClassVar

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers.activations import ACT2FN

from .modeling_baseline import MLP, BaselineConfig, BaselineForRetrieval, register
from .ranking_losses import structure_loss, triplet_loss


@strict
class CBMVRConfig(BaselineConfig):
    r"""Configuration of [`CBMVRForRetrieval`].

    Args:
        video_hidden_sizes, audio_hidden_sizes (`[int]`): layers of a branch before the last one.
        hidden_act (`str`, defaults to `"relu"`): after each of them.
        hidden_dropout_prob (`float`, defaults to 0.1): likewise.
        margin, top_share (`float`, defaults to 0.1): of the triplet loss.
        audio_to_video_weight, video_to_audio_weight (`float`): of its directions, named from anchor to candidate.
        structure_weight (`float`, defaults to 0.2): of the structure loss of each modality.
    """

    model_type = "cbmvr"
    default_sources: ClassVar[dict[str, str]] = {"video_features": "encoder", "audio_features": "mel_statistics"}

    video_hidden_sizes: list[int] | tuple[int, ...] = (2048,)
    audio_hidden_sizes: list[int] | tuple[int, ...] = (2048, 1024)
    hidden_act: str = "relu"
    hidden_dropout_prob: float | int = 0.1
    margin: float | int = 0.1
    top_share: float | int = 0.1
    audio_to_video_weight: float | int = 3.0
    video_to_audio_weight: float | int = 1.0
    structure_weight: float | int = 0.2

    def validate_ranges(self) -> None:
        """Refuse a share out of its range."""
        if not 0 < self.top_share <= 1:
            raise ValueError(f"top_share must lie in (0, 1], got {self.top_share}")


class CBMVRForRetrieval(BaselineForRetrieval):
    """Two branches on features pooled over the segments; one embedding a clip.

    Example:

    >>> model = CBMVRForRetrieval(CBMVRConfig(video_features={"source": "colour_statistics"}))
    >>> model.get_video_features(torch.randn(2, 8, 3, 32, 32)).segment_embeds.shape
    torch.Size([2, 1, 512])
    """

    config: CBMVRConfig

    def __init__(self, config: CBMVRConfig):
        super().__init__(config)
        self.video_tower = Branch(self.video_features.size, config.video_hidden_sizes, config)
        self.audio_tower = Branch(self.audio_features.size, config.audio_hidden_sizes, config)
        self.post_init()

    def ranking_loss(
        self, features: tuple[Tensor, Tensor], embeddings: tuple[Tensor, Tensor], track_id: Tensor | None
    ) -> Tensor:
        """The weighted sum above."""
        config = self.config
        video, audio = (clips[:, 0] for clips in embeddings)
        rank = partial(triplet_loss, margin=config.margin, top_share=config.top_share, track_id=track_id)
        ranking = config.audio_to_video_weight * rank(audio, video) + config.video_to_audio_weight * rank(video, audio)
        before = [segment_statistics(clips) for clips in features]
        structure = structure_loss(before[0], video) + structure_loss(before[1], audio)
        return ranking + config.structure_weight * structure


class Branch(nn.Module):
    """Pooled features → fully connected layers → batch norm → L2."""

    def __init__(self, feature_size: int, hidden_sizes: list[int] | tuple[int, ...], config: CBMVRConfig):
        super().__init__()
        sizes = [2 * feature_size, *hidden_sizes, config.embedding_size]
        self.layers = MLP(sizes, activation=ACT2FN[config.hidden_act], dropout=config.hidden_dropout_prob)
        self.norm = nn.BatchNorm1d(config.embedding_size)

    def forward(self, features: Tensor) -> Tensor:
        """(batch, K, feature size) → (batch, 1, embedding size), L2-normalised."""
        return nn.functional.normalize(self.norm(self.layers(segment_statistics(features))), dim=-1)[:, None]


def segment_statistics(features: Tensor) -> Tensor:
    """Mean and standard deviation over the segments: (batch, K, size) → (batch, 2 · size)."""
    return torch.cat([features.mean(1), features.std(1, correction=0)], -1)


__all__ = ["CBMVRConfig", "CBMVRForRetrieval"]


register(CBMVRConfig, CBMVRForRetrieval)


@strict
class CMMVRConfig(CBMVRConfig):
    """Configuration of [`CMMVRForRetrieval`]: the fields of [`CBMVRConfig`] with other defaults."""

    model_type = "cmmvr"
    default_sources: ClassVar[dict[str, str]] = {"video_features": "encoder", "audio_features": "encoder"}

    video_hidden_sizes: list[int] | tuple[int, ...] = (2048, 1024)
    audio_to_video_weight: float | int = 1.0
    structure_weight: float | int = 0.0


class CMMVRForRetrieval(CBMVRForRetrieval):
    """Two branches on features of two encoders, pooled over the segments; one embedding a clip.

    Example:

    >>> config = CMMVRConfig(video_hidden_sizes=[64], audio_hidden_sizes=[64], embedding_size=16)
    >>> config.video_features.source, config.audio_features.source
    ('encoder', 'encoder')
    """

    config: CMMVRConfig


register(CMMVRConfig, CMMVRForRetrieval)
