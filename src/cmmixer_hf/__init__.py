"""CMMixer in the Hugging Face way: video and audio are images (arXiv 2308.13820).

The public names stand in `__init__.pyi`; each is imported when it is first asked for.
"""

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
import lazy_loader

from .auto_classes import register_auto_classes

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

AutoConfig.register("cmmixer", CMMixerConfig, exist_ok=True)
AutoModel.register(CMMixerConfig, CMMixerModel, exist_ok=True)
AutoModelForPreTraining.register(CMMixerConfig, CMMixerForPreTraining, exist_ok=True)
AutoModelForVideoClassification.register(CMMixerConfig, CMMixerForVideoClassification, exist_ok=True)
AutoModelForAudioClassification.register(CMMixerConfig, CMMixerForAudioClassification, exist_ok=True)
AutoFeatureExtractor.register(CMMixerConfig, CMMixerFeatureExtractor, exist_ok=True)
AutoProcessor.register(CMMixerConfig, CMMixerProcessor, exist_ok=True)
for _config, _model in (
    (CBMVRConfig, CBMVRForRetrieval),
    (CMMVRConfig, CMMVRForRetrieval),
    (CVMVAEConfig, CVMVAEForRetrieval),
    (MVPtConfig, MVPtForRetrieval),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)

AutoConfig.register("cav_mae", CAVMAEConfig, exist_ok=True)
AutoModel.register(CAVMAEConfig, CAVMAEModel, exist_ok=True)
AutoModelForPreTraining.register(CAVMAEConfig, CAVMAEForPreTraining, exist_ok=True)
AutoModelForVideoClassification.register(CAVMAEConfig, CAVMAEForAudioVisualClassification, exist_ok=True)
AutoModelForAudioClassification.register(CAVMAEConfig, CAVMAEForAudioVisualClassification, exist_ok=True)
AutoFeatureExtractor.register(CAVMAEConfig, CAVMAEFeatureExtractor, exist_ok=True)
AutoProcessor.register(CAVMAEConfig, CMMixerProcessor, exist_ok=True)

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
]
register_auto_classes()
