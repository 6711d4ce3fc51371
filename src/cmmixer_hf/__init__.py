"""CMMixer in the Hugging Face way: video and audio are images (arXiv 2308.13820).

The public names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

import lazy_loader

from .auto_classes import register_auto_classes
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
from .search import Searcher

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_auto_classes()
AutoConfig.register("cmmixer", CMMixerConfig, exist_ok=True)
AutoModel.register(CMMixerConfig, CMMixerModel, exist_ok=True)
AutoModelForPreTraining.register(CMMixerConfig, CMMixerForPreTraining, exist_ok=True)
AutoModelForVideoClassification.register(CMMixerConfig, CMMixerForVideoClassification, exist_ok=True)
AutoModelForAudioClassification.register(CMMixerConfig, CMMixerForAudioClassification, exist_ok=True)
AutoFeatureExtractor.register(CMMixerConfig, CMMixerFeatureExtractor, exist_ok=True)
AutoProcessor.register(CMMixerConfig, CMMixerProcessor, exist_ok=True)

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
    "Searcher",
]
