from .configuration_cav_mae import CAVMAEConfig
from .configuration_cmmixer import CMMixerConfig
from .losses import info_nce, reconstruction_loss
from .masking import even_noise
from .modeling_cav_mae import CAVMAEForPreTraining, CAVMAEForRetrieval
from .modeling_cmmixer import CMMixerForPreTraining, CMMixerForRetrieval, stack_patches
from .outputs import CMMixerForPreTrainingOutput
from .similarity import combine_queries, pool_segments, segment_similarity

__all__ = [
    "CAVMAEConfig",
    "CAVMAEForPreTraining",
    "CAVMAEForRetrieval",
    "CMMixerConfig",
    "CMMixerForPreTraining",
    "CMMixerForPreTrainingOutput",
    "CMMixerForRetrieval",
    "combine_queries",
    "even_noise",
    "info_nce",
    "pool_segments",
    "reconstruction_loss",
    "segment_similarity",
    "stack_patches",
]
