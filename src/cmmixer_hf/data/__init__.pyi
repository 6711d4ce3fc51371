from .batches import Clips, LabelNames, StackMaker, collate_clips, find_labels, unpack_frames, unpack_waveforms
from .preparation import PrepareSettings, find_media, prepare, prepare_source
from .prepared_clips import PreparedClips, SourceError, load_prepared, raw_row

__all__ = [
    "Clips",
    "LabelNames",
    "PrepareSettings",
    "PreparedClips",
    "SourceError",
    "StackMaker",
    "collate_clips",
    "find_labels",
    "find_media",
    "load_prepared",
    "prepare",
    "prepare_source",
    "raw_row",
    "unpack_frames",
    "unpack_waveforms",
]
