from .media.feature_extraction_cav_mae import CAVMAEFeatureExtractor
from .media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .media.processing_cmmixer import CMMixerProcessor
from .media.reading import MediaError
from .models.configuration_cav_mae import CAVMAEConfig
from .models.configuration_cmmixer import CMMixerConfig
from .models.modeling_cav_mae import (
    CAVMAEForAudioVisualClassification,
    CAVMAEForPreTraining,
    CAVMAEForRetrieval,
    CAVMAEModel,
)
from .models.modeling_cmmixer import (
    CMMixerForAudioClassification,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerForVideoClassification,
    CMMixerModel,
)
from .search.index import RetrievalIndex
from .search.searcher import Searcher

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
