"""CMMVR: the branches of CBMVR on learned features of both modalities (Table 2 of the paper).

Prétet, Richard and Peeters: Cross-Modal Music-Video Recommendation: A Study of Design Choices, IJCNN 2021. They keep
VM-NET and its triplet loss, which they compare with binary cross-entropy and prefer, and describe music by a
pre-trained network (MuSimNet, OpenL3, MusicCNN, AudioSet) instead of hand-made statistics: verified in the abstract.
CMMixer's §4.2 calls it deeper than CBMVR.

Not verified: sizes, weights and margin (here those of CBMVR, with the deeper branch for both modalities and both
directions alike), and whether the structure loss is kept (here not). Left out: the networks named above, for which any
encoder may stand, our own by default; training with binary cross-entropy.
"""

from typing import ClassVar

from huggingface_hub.dataclasses import strict

from .modeling_baseline import register
from .modeling_cbmvr import CBMVRConfig, CBMVRForRetrieval


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


__all__ = ["CMMVRConfig", "CMMVRForRetrieval"]


register(CMMVRConfig, CMMVRForRetrieval)
