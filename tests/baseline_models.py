"""Small baselines of every kind, and pairs for them."""

import torch

from cmmixer_hf import CMMixerConfig, CMMixerModel
from cmmixer_hf.models.baselines.frozen_features import FrozenFeatures, FrozenFeaturesConfig
from cmmixer_hf.models.baselines.modeling_baseline import BaselineForRetrieval
from cmmixer_hf.models.baselines.modeling_cbmvr import CBMVRForRetrieval, CMMVRForRetrieval
from cmmixer_hf.models.baselines.modeling_cvmvae import CVMVAEForRetrieval
from cmmixer_hf.models.baselines.modeling_mvpt import MVPtForRetrieval

BRANCHES = {"video_hidden_sizes": [24], "audio_hidden_sizes": [24], "embedding_size": 16}
BASELINES = {
    "cbmvr": (CBMVRForRetrieval, BRANCHES),
    "cmmvr": (CMMVRForRetrieval, BRANCHES),
    "cvmvae": (CVMVAEForRetrieval, {"hidden_size": 24, "embedding_size": 16}),
    "mvpt": (MVPtForRetrieval, {"embedding_size": 16, "intermediate_size": 32, "num_attention_heads": 2}),
}
ENCODER = CMMixerConfig(
    image_size=32, num_frames=3, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64
)


def build(name: str, **changes) -> BaselineForRetrieval:
    torch.manual_seed(0)
    model, sizes = BASELINES[name]
    video = FrozenFeatures.from_encoder(CMMixerModel(ENCODER))
    audio = FrozenFeatures(FrozenFeaturesConfig(source="mel_statistics", num_bands=8))
    return model.from_features(video, audio, **(sizes | changes)).eval()


def pairs(batch: int = 6, *, frames: int = 3, seed: int = 1) -> dict[str, torch.Tensor]:
    drawn = torch.randn(2, batch, frames, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    drawn += torch.randn(2, batch, 1, 3, 32, 32, generator=torch.Generator().manual_seed(seed + 1))
    return dict(zip(("pixel_values", "audio_values"), drawn, strict=True))
