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
from .modeling_cmmixer import (
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from .processing_cmmixer import CMMixerProcessor
from .search import Searcher

__version__: str

__all__ = [
    "CAVMAEConfig",
    "CAVMAEFeatureExtractor",
    "CAVMAEForAudioVisualClassification",
    "CAVMAEForPreTraining",
    "CAVMAEForRetrieval",
    "CAVMAEModel",
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
    "Searcher",
]
