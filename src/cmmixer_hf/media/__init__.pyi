from .feature_extraction_cav_mae import CAVMAEFeatureExtractor
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .opening import MediaError
from .processing_cmmixer import clip_sampling
from .reading import (
    Clip,
    FileSection,
    Sampling,
    cut_into_sections,
    probe,
    read_clip,
    read_sections,
    read_windows,
    segment_midpoints,
    write_clip,
)

__all__ = [
    "CAVMAEFeatureExtractor",
    "CMMixerFeatureExtractor",
    "Clip",
    "FileSection",
    "MediaError",
    "Sampling",
    "clip_sampling",
    "cut_into_sections",
    "probe",
    "read_clip",
    "read_sections",
    "read_windows",
    "segment_midpoints",
    "write_clip",
]
