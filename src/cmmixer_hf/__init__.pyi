from .configuration_cmmixer import CMMixerConfig
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .index import RetrievalIndex
from .media import MediaError
from .modeling_cmmixer import (
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from .processing_cmmixer import CMMixerProcessor

__version__: str

__all__ = [
    "CMMixerConfig",
    "CMMixerFeatureExtractor",
    "CMMixerForAudioClassification",
    "CMMixerForPreTraining",
    "CMMixerForRetrieval",
    "CMMixerForVideoClassification",
    "CMMixerModel",
    "CMMixerProcessor",
    "MediaError",
    "RetrievalIndex",
]
