from .frozen_features import FrozenFeatures, colour_statistics, mel_statistics
from .modeling_baseline import BaselineForRetrieval
from .modeling_cbmvr import CBMVRForRetrieval, CMMVRForRetrieval
from .modeling_cvmvae import CVMVAEForRetrieval
from .modeling_mvpt import MVPtConfig, MVPtForRetrieval

__all__ = [
    "BaselineForRetrieval",
    "CBMVRForRetrieval",
    "CMMVRForRetrieval",
    "CVMVAEForRetrieval",
    "FrozenFeatures",
    "MVPtConfig",
    "MVPtForRetrieval",
    "colour_statistics",
    "mel_statistics",
]
