from .media.feature_extraction_cav_mae import CAVMAEFeatureExtractor as CAVMAEFeatureExtractor
from .media.feature_extraction_cmmixer import CMMixerFeatureExtractor as CMMixerFeatureExtractor
from .media.processing_cmmixer import CMMixerProcessor as CMMixerProcessor
from .media.reading import MediaError as MediaError
from .models.configuration_cav_mae import CAVMAEConfig as CAVMAEConfig
from .models.configuration_cmmixer import CMMixerConfig as CMMixerConfig
from .models.modeling_cav_mae import CAVMAEForAudioVisualClassification as CAVMAEForAudioVisualClassification
from .models.modeling_cav_mae import CAVMAEForPreTraining as CAVMAEForPreTraining
from .models.modeling_cav_mae import CAVMAEForRetrieval as CAVMAEForRetrieval
from .models.modeling_cav_mae import CAVMAEModel as CAVMAEModel
from .models.modeling_cmmixer import CMMixerForAudioClassification as CMMixerForAudioClassification
from .models.modeling_cmmixer import CMMixerForPreTraining as CMMixerForPreTraining
from .models.modeling_cmmixer import CMMixerForRetrieval as CMMixerForRetrieval
from .models.modeling_cmmixer import CMMixerForVideoClassification as CMMixerForVideoClassification
from .models.modeling_cmmixer import CMMixerModel as CMMixerModel
from .search.index import RetrievalIndex as RetrievalIndex
from .search.searcher import Searcher as Searcher

__version__: str
