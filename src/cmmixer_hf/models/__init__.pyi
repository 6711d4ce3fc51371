from .configuration_cav_mae import CAVMAEConfig
from .configuration_cmmixer import CMMixerConfig
from .losses import info_nce, reconstruction_loss
from .masking import even_noise
from .modeling_cav_mae import CAVMAEForPreTraining, CAVMAEForRetrieval
from .modeling_cmmixer import CMMixerForPreTraining, CMMixerForRetrieval
from .outputs import CMMixerForPreTrainingOutput
from .patching import patchify
from .safe_loading import MissingWeightsError
from .similarity import combine_queries, pool_segments, segment_similarity

__all__ = [
    "CAVMAEConfig",
    "CAVMAEForPreTraining",
    "CAVMAEForRetrieval",
    "CMMixerConfig",
    "CMMixerForPreTraining",
    "CMMixerForPreTrainingOutput",
    "CMMixerForRetrieval",
    "MissingWeightsError",
    "combine_queries",
    "even_noise",
    "info_nce",
    "patchify",
    "pool_segments",
    "reconstruction_loss",
    "segment_similarity",
]
