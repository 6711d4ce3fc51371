"""CAV-MAE's input: single frames as ImageNet models take them, and Kaldi's log-mel filterbank of ten seconds."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers.audio_utils import mel_filter_bank

from .feature_extraction_cmmixer import CMMixerFeatureExtractor


class CAVMAEFeatureExtractor(CMMixerFeatureExtractor):
    r"""Makes `pixel_values` from frames and `audio_values` from sound, as the published CAV-MAE was trained.

    Frames: shorter side resized (bicubic), centre cropped, ImageNet's mean and deviation. Sound: its mean removed;
    Kaldi's filterbank with Hann windows of 25 ms every 10 ms; padded with zeros or cut to one length; (x − mean)/std.

    It is called as [`CMMixerFeatureExtractor`], but for sound: (samples,) is a clip, (batch, samples) or a list of
    waveforms of any lengths are several, and so are (batch, K, samples), windows that are joined in time.
    `audio_values` are (batch, `audio_length`, mel bins), and `augment` reaches them too.

    Args:
        num_frames (`int`, defaults to 10): frames that [`CMMixerProcessor`] reads of a file, from the middles of so
            many equal parts.
        window_seconds (`float`, defaults to 1.0): of sound that it reads around each, which in a clip of ten seconds
            are all of it.
        image_mean, image_std: of the channels; frames become (x/255 − mean)/std.
        audio_length (`int`, defaults to 1024): time steps of a spectrogram.
        n_fft (`int`, defaults to 512): of Kaldi's filterbank.
        min_frequency (`float`, defaults to 20.0): likewise, in Hz.
        preemphasis (`float`, defaults to 0.97): likewise.
        audio_mean, audio_std (`float`): of log-mels in AudioSet; no factor 2.
        crop_scale, flip_probability: augmentation of frames as in [`CMMixerFeatureExtractor`], none as published.
        noise_level (`float`, defaults to 0.1): augmentation adds uniform noise of at most this to a spectrogram, and
            rolls it in time.
        kwargs: what else [`CMMixerFeatureExtractor`] takes: `image_size`, `sampling_rate`, `win_length`, `hop_length`,
            `num_mel_bins`, `mel_floor`, `crop_ratio`.

    Example:

    >>> extractor = CAVMAEFeatureExtractor()
    >>> frames = np.zeros((10, 240, 320, 3), dtype=np.uint8)
    >>> features = extractor(videos=frames, audio=torch.rand(1, 160000), sampling_rate=16000)
    >>> features["pixel_values"].shape, features["audio_values"].shape
    (torch.Size([1, 10, 3, 224, 224]), torch.Size([1, 1024, 128]))
    """

    # A batch of waveforms has two dimensions here: windows are given clip by clip.
    _clip_rank = {1: 1, 2: 1, 3: 2}  # noqa: RUF012

    def __init__(
        self,
        num_frames: int = 10,
        image_mean: float | Sequence[float] = (0.485, 0.456, 0.406),
        image_std: float | Sequence[float] = (0.229, 0.224, 0.225),
        *,
        window_seconds: float = 1.0,
        audio_length: int = 1024,
        n_fft: int = 512,
        min_frequency: float = 20.0,
        preemphasis: float = 0.97,
        audio_mean: float = -5.081,
        audio_std: float = 4.4849,
        crop_scale: Sequence[float] = (1.0, 1.0),
        flip_probability: float = 0.0,
        noise_level: float = 0.1,
        **kwargs: Any,
    ):
        self.audio_length = audio_length
        self.min_frequency = min_frequency
        self.preemphasis = preemphasis
        self.noise_level = noise_level
        super().__init__(
            num_frames=num_frames,
            image_mean=image_mean,
            image_std=image_std,
            window_seconds=window_seconds,
            n_fft=n_fft,
            audio_mean=audio_mean,
            audio_std=audio_std,
            crop_scale=crop_scale,
            flip_probability=flip_probability,
            **kwargs,
        )

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Kaldi's natural-log mel energies, (..., samples) in [−1, 1] → (..., mel bins, hops); no hop over the end."""
        device = waveforms.device
        pieces = waveforms.unfold(-1, self.win_length, self.hop_length)
        pieces = pieces - pieces.mean(-1, keepdim=True)
        before = torch.cat([pieces[..., :1], pieces[..., :-1]], -1)
        pieces = (pieces - self.preemphasis * before) * torch.as_tensor(self.window, device=device)
        spectrum = torch.fft.rfft(pieces, self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        mel = power @ torch.as_tensor(self.mel_filters, device=device)
        return mel.clamp(min=self.mel_floor).log().transpose(-1, -2)

    def spectrograms(self, waveforms: Tensor) -> Tensor:
        """Waveforms (batch, samples) in [−1, 1] → (batch, `audio_length`, mel bins), normalised.

        As published, what is missing is filled with 0 before the normalisation, not with silence.
        """
        if waveforms.shape[-1] < self.win_length:
            raise ValueError(f"expected sound of at least {self.win_length} samples, got {waveforms.shape[-1]}")
        waveforms = waveforms - waveforms.mean(-1, keepdim=True)
        enough = self.win_length + (self.audio_length - 1) * self.hop_length
        mel = self.log_mel(waveforms[..., :enough]).transpose(-1, -2)
        mel = nn.functional.pad(mel, (0, 0, 0, self.audio_length - mel.shape[-2]))
        return (mel - self.audio_mean) / self.audio_std

    def compact(self, audio_values: Tensor) -> Tensor:
        """All of `audio_values`, (batch, time, mel bins): there is one channel."""
        return audio_values

    def expand(self, kept: Tensor) -> Tensor:
        """Itself, (batch, time, mel bins)."""
        return kept

    def _make_mel_filters(self) -> np.ndarray:
        with warnings.catch_warnings():
            # One of Kaldi's 128 filters lies between two frequencies and is empty, in training as published too.
            warnings.filterwarnings("ignore", message="At least one mel filter")
            return mel_filter_bank(
                num_frequency_bins=self.n_fft // 2 + 1,
                num_mel_filters=self.num_mel_bins,
                min_frequency=self.min_frequency,
                max_frequency=self.sampling_rate / 2,
                sampling_rate=self.sampling_rate,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )

    def _make_window(self) -> Tensor:
        return torch.hann_window(self.win_length, periodic=False)

    def _sounds_to_stacks(self, clips: Sequence[Tensor], *, augment: bool, generator: torch.Generator | None) -> Tensor:
        """Windows (K, samples) are joined in time; then all waveforms of one length are done at once."""
        waveforms = [clip.flatten() for clip in clips]
        alike = len({len(waveform) for waveform in waveforms}) == 1
        batches = [torch.stack(waveforms)] if alike else [waveform[None] for waveform in waveforms]
        stacks = torch.cat([self.spectrograms(batch) for batch in batches])
        return torch.stack([self._perturb(stack, generator) for stack in stacks]) if augment else stacks

    def _perturb(self, spectrogram: Tensor, generator: torch.Generator | None) -> Tensor:
        """Noise of a random level, and a random roll in time."""
        level = self.noise_level * torch.rand((), generator=generator).item()
        noise = torch.rand(spectrogram.shape, generator=generator).to(spectrogram.device)
        shift = int(torch.randint(self.audio_length, (), generator=generator))
        return (spectrogram + level * noise).roll(shift, 0)

    def _box(self, size: Sequence[int], augment: bool, generator: torch.Generator | None) -> tuple[int, int, int, int]:
        """The whole frame, unless augmentation crops."""
        if augment and min(self.crop_scale) < 1:
            return super()._box(size, augment, generator)
        return 0, 0, size[0], size[1]

    def _resize(self, images: Tensor) -> Tensor:
        """Shorter side to size, then the centre."""
        rows, columns = images.shape[-2:]
        height, width = self.image_height_width
        scale = max(height / rows, width / columns)
        size = max(height, int(rows * scale)), max(width, int(columns * scale))
        images = nn.functional.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 255)
        top, left = round((size[0] - height) / 2), round((size[1] - width) / 2)
        return images[..., top : top + height, left : left + width]


__all__ = ["CAVMAEFeatureExtractor"]
