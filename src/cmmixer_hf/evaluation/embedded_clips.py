"""Clips of a source, decoded and embedded by any embedder, to score models of other families.

These take sound of other rates, longer windows and more frames than prepared clips hold, so the files are read.
"""

import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.clips import ClipSpec, Section, local_file
from ..data.prepared_clips import SourceError
from ..data.sources.source import read_source
from ..media.reading import MediaError, Sampling, read_clip
from ..progress import Progress
from ..search.embedders.embedder import MODALITIES, Embedder
from .inference import gather_results, process_share
from .retrieval import ClipEmbeddings


def find_evaluated(source: str, model: str, *, split: str | None = None, fold: int | None = None) -> list[ClipSpec]:
    """The clips of a source that are to be scored.

    Raises:
        SourceError: there are none, or they were prepared for another model.
    """
    try:
        clips = [clip for clip in read_source(source).clips if clip.error is None]
    except SourceError as error:
        raise SourceError(
            f"{model} makes its own inputs, for which prepared clips hold too little: give the folder or table "
            f"of files that was prepared ({error})"
        ) from error
    wanted = [clip for clip in clips if split in (None, clip.split) and fold in (None, clip.fold)]
    if not wanted:
        raise SourceError(f"none of {len(clips)} clips of {source} is of split {split!r} and fold {fold!r}")
    return wanted


def embed_specs(
    embedder: Embedder, clips: Sequence[ClipSpec], *, batch_size: int = 32, progress: bool = True
) -> ClipEmbeddings:
    """Embed picture and sound of clips; a clip that cannot be used is named and left out. All processes get all.

    Raises:
        SourceError: the model does not know both sides, or no clip can be used.
    """
    if missing := set(MODALITIES) - set(embedder.modalities):
        raise SourceError(f"{embedder.name} knows no {min(missing)}, and scores compare video with audio: take another")
    sampling = {modality: embedder.sampling(modality) for modality in MODALITIES}
    share = process_share(len(clips))
    embedded: list[tuple[ClipSpec, Tensor, Tensor]] = []
    wanted = [clips[place] for place in share]
    bar = Progress(total=len(wanted), desc="embedding", unit="clip", disable=not progress or share.start > 0)
    for first in range(0, len(wanted), batch_size):
        batch = wanted[first : first + batch_size]
        read = [(clip, both) for clip in batch if (both := _read(clip, sampling))]
        sides = [embedder.embed_batch([both[side] for _, both in read], side) for side in MODALITIES] if read else []
        embedded += [(clip, *embeds) for (clip, _), *embeds in zip(read, *sides, strict=True)]
        bar.update(len(batch))
    embedded = gather_results(embedded)
    if not embedded:
        raise SourceError(f"none of {len(clips)} clips can be used, see above")
    specs, videos, sounds = zip(*embedded, strict=True)
    tracks, ids = (tuple(getattr(clip, name) for clip in specs) for name in ("track_id", "clip_id"))
    return ClipEmbeddings(torch.stack(videos), torch.stack(sounds), tracks=tracks, clip_ids=ids)


def _read(clip: ClipSpec, sampling: dict[str, Sampling]) -> dict[str, np.ndarray] | None:
    """Frames and windows of sound of a clip."""
    try:
        return {"video": _side(clip.picture, "video", sampling), "audio": _side(clip.sound, "audio", sampling)}
    except MediaError as error:
        print(f"left out: {error}", file=sys.stderr)
        return None


def _side(section: Section, side: str, sampling: dict[str, Sampling]) -> np.ndarray:
    media, start, end = section
    with local_file(media) as path:
        read = read_clip(path, sampling[side], start=start, end=end, video=side == "video", audio=side == "audio")
    return read.frames if side == "video" else read.waveforms  # type: ignore[return-value]  # what was asked for
