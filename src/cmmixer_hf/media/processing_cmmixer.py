"""File in, tensors out: decoding and feature extraction in one call."""

from functools import partial
from typing import Any

from transformers import BatchFeature, ProcessorMixin

from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .inputs import read_media, waveform_records
from .reading import Sampling, read_clip


def clip_sampling(extractor: CMMixerFeatureExtractor, shorter_side: int | None = None) -> Sampling:
    """The sampling that an extractor needs: K frames and windows as in §3.2 and §4.3."""
    return Sampling(
        num_frames=extractor.num_frames,
        window_seconds=extractor.window_seconds,
        sampling_rate=extractor.sampling_rate,
        shorter_side=max(extractor.image_height_width) if shorter_side is None else shorter_side,
    )


class CMMixerProcessor(ProcessorMixin):
    r"""Wraps [`CMMixerFeatureExtractor`] so that paths of media files work wherever arrays do.

    Args:
        feature_extractor ([`CMMixerFeatureExtractor`]): makes the stacks.

    Example:

    >>> import numpy as np
    >>> processor = CMMixerProcessor(CMMixerFeatureExtractor(image_size=64))
    >>> processor(audio=np.zeros((8, 41600), dtype=np.float32), sampling_rate=16000)["audio_values"].shape
    torch.Size([1, 8, 3, 64, 64])
    """

    def __init__(self, feature_extractor: CMMixerFeatureExtractor):
        super().__init__(feature_extractor)

    @property
    def model_input_names(self) -> list[str]:
        """`pixel_values` and `audio_values`."""
        return self.feature_extractor.model_input_names

    def __call__(
        self,
        videos: Any = None,
        audio: Any = None,
        *,
        images: Any = None,
        start: float | None = None,
        end: float | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Make the stacks of one or several files.

        Args:
            videos: a video file (path, bytes, open file, or record of a `Video` column), a list of them, or what the
                feature extractor takes.
            audio: an audio or video file whose sound is wanted, in the same ways, records `{"array", "sampling_rate"}`
                of an `Audio` column, or what the feature extractor takes.
            images: refused, with a message that names `videos`.
            start, end: part of the files to use, in seconds; all of it by default.
            kwargs: passed to the feature extractor (`augment`, `generator`, `device`, `return_tensors`).

        Returns:
            `pixel_values` where `videos` is given and `audio_values` where `audio` is, (batch, K, 3, height, width).

        Raises:
            MediaError: a file cannot be used; it names the file, the reason and what to do.
        """
        sampling = clip_sampling(self.feature_extractor)
        read = partial(read_clip, sampling=sampling, start=start, end=end)
        if images is not None:
            raise ValueError("a clip is given as videos=, frames (K, height, width, 3) or files; got images=")
        arrays, rate = waveform_records(audio)
        videos = read_media(videos, lambda path: read(path, audio=False).frames)
        sounds = read_media(arrays, lambda path: read(path, video=False).waveforms)
        rate = rate if sounds is arrays else sampling.sampling_rate  # files are read at the extractor's
        if rate is not None:
            kwargs.setdefault("sampling_rate", rate)
        return self.feature_extractor(videos=videos, audio=sounds, **kwargs)


__all__ = ["CMMixerProcessor"]
