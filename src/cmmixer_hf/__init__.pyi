from .configuration_cav_mae import CAVMAEConfig
from .configuration_cmmixer import CMMixerConfig
from .feature_extraction_cav_mae import CAVMAEFeatureExtractor
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .index import RetrievalIndex
from .media import MediaError
from .modeling_cav_mae import (
    CAVMAEForAudioVisualClassification,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CAVMAEModel,
)
from .modeling_cbmvr import CBMVRConfig, CBMVRForRetrieval
from .modeling_cmmixer import (
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from .modeling_cmmvr import CMMVRConfig, CMMVRForRetrieval
from .modeling_cvmvae import CVMVAEConfig, CVMVAEForRetrieval
from .modeling_mvpt import MVPtConfig, MVPtForRetrieval
from .processing_cmmixer import CMMixerProcessor

__version__: str

__all__ = [
    "CAVMAEConfig",
    "CAVMAEFeatureExtractor",
    "CAVMAEForAudioVisualClassification",
    "CAVMAEForPreTraining",
    "CAVMAEForRetrieval",
    "CAVMAEModel",
    "CBMVRConfig",
    "CBMVRForRetrieval",
    "CMMVRConfig",
    "CMMVRForRetrieval",
    "CMMixerConfig",
    "CMMixerFeatureExtractor",
    "CMMixerForAudioClassification",
    "CMMixerForPreTraining",
    "CMMixerForRetrieval",
    "CMMixerForVideoClassification",
    "CMMixerModel",
    "CMMixerProcessor",
    "CVMVAEConfig",
    "CVMVAEForRetrieval",
    "MVPtConfig",
    "MVPtForRetrieval",
    "MediaError",
    "RetrievalIndex",
]
