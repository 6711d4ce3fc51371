"""Frames and waveforms → three-channel stacks of one size (§4.3), on whatever device they lie."""

import logging
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BatchFeature, FeatureExtractionMixin
from transformers.audio_utils import mel_filter_bank

# Windows of sound whose spectra a processor's cache holds: all of a batch at once take more than twice the time.
WINDOWS_AT_ONCE = 16


class CMMixerFeatureExtractor(FeatureExtractionMixin):
    r"""Makes `pixel_values` from frames and `audio_values` from windows of sound.

    Args:
        image_size (`int` or `[int, int]`, defaults to 224): height and width of both stacks in pixels.
        num_frames (`int`, defaults to 8): K, segments that a waveform or a file is cut into.
        image_mean, image_std (`float` or one a channel): frames become (x/255 − mean)/std.
        sampling_rate (`int`, defaults to 16000): of the sound, in Hz.
        window_seconds (`float`, defaults to 2.6): sound a segment.
        n_fft, win_length, hop_length (`int`): a Hann window of 25 ms every 10 ms by default, in samples.
        num_mel_bins (`int`, defaults to 128): slaney mel filters between 0 Hz and half the sampling rate.
        mel_floor (`float`, defaults to 1.1920929e-07): energies under it count as it, before the natural logarithm.
        audio_mean, audio_std (`float`): log-mels become (x − mean)/(2 · std); AudioMAE's statistics of AudioSet.
        crop_scale (`[float, float]`, defaults to [0.5, 1.0]): area of the random resized crop, as a share of the frame;
            this and the next two are §4.3's augmentation, one draw a clip.
        crop_ratio (`[float, float]`, defaults to [3/4, 4/3]): aspect of the crop, in that of the output.
        flip_probability (`float`, defaults to 0.5): of mirroring a clip.
        standardize (`bool`, defaults to `False`): each frame and each spectrogram also has mean 0 and variance 1 of its
            own, so that neither brightness nor loudness is in the stacks.

    Example:

    >>> extractor = CMMixerFeatureExtractor(image_size=64)
    >>> frames = np.zeros((8, 90, 160, 3), dtype=np.uint8)
    >>> windows = np.zeros((8, 41600), dtype=np.float32)
    >>> features = extractor(videos=frames, audio=windows, sampling_rate=16000)
    >>> features["pixel_values"].shape, features["audio_values"].shape
    (torch.Size([1, 8, 3, 64, 64]), torch.Size([1, 8, 3, 64, 64]))
    """

    model_input_names = ["pixel_values", "audio_values"]  # noqa: RUF012 - transformers declares it as a plain list
    # Dimensions of sound as it is given → those of one clip's.
    _clip_rank = {1: 1, 2: 2, 3: 2}  # noqa: RUF012

    def __init__(
        self,
        image_size: int | Sequence[int] = 224,
        num_frames: int = 8,
        image_mean: float | Sequence[float] = 0.45,
        image_std: float | Sequence[float] = 0.225,
        sampling_rate: int = 16000,
        window_seconds: float = 2.6,
        n_fft: int = 400,
        win_length: int = 400,
        hop_length: int = 160,
        num_mel_bins: int = 128,
        mel_floor: float = 1.1920929e-07,
        audio_mean: float = -4.2677393,
        audio_std: float = 4.5689974,
        crop_scale: Sequence[float] = (0.5, 1.0),
        crop_ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip_probability: float = 0.5,
        standardize: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.image_size = image_size if isinstance(image_size, int) else list(image_size)
        self.num_frames = num_frames
        self.image_mean = image_mean if isinstance(image_mean, (int, float)) else list(image_mean)
        self.image_std = image_std if isinstance(image_std, (int, float)) else list(image_std)
        self.sampling_rate = sampling_rate
        self.window_seconds = window_seconds
        self.n_fft = n_fft
        self.win_length = win_length
        self.hop_length = hop_length
        self.num_mel_bins = num_mel_bins
        self.mel_floor = mel_floor
        self.audio_mean = audio_mean
        self.audio_std = audio_std
        self.crop_scale = list(crop_scale)
        self.crop_ratio = list(crop_ratio)
        self.flip_probability = flip_probability
        self.standardize = standardize
        self._check_sizes()
        # These two names are the ones that transformers leaves out of the saved JSON.
        self.mel_filters = self._make_mel_filters().astype(np.float32)
        self.window = self._make_window().numpy()

    def _check_sizes(self) -> None:
        names = ("num_frames", "sampling_rate", "window_seconds", "n_fft", "win_length", "hop_length", "num_mel_bins")
        sizes = {name: [getattr(self, name)] for name in names} | {"image_size": self.image_height_width}
        for name, values in sizes.items():
            if not all(0 < value < math.inf for value in values):
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("crop_scale", "crop_ratio"):
            least, most = getattr(self, name)
            if not 0 < least <= most or (name == "crop_scale" and most > 1):
                raise ValueError(f"{name} must be a positive range, the least first, got {getattr(self, name)}")
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability must lie in [0, 1], got {self.flip_probability}")
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length ({self.win_length}) must not be longer than n_fft ({self.n_fft})")

    def __call__(
        self,
        videos: Any = None,
        audio: Any = None,
        *,
        sampling_rate: int | None = None,
        augment: bool = False,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Make the stacks of one clip or of a list of clips.

        Args:
            videos: frames of one clip, (K, height, width, 3) or (K, 3, height, width) uint8 RGB as array, tensor or a
                list of K arrays or PIL images; a list or batch of such clips, which may differ in height and width. Of
                more than `num_frames` those at the midpoints of that many equal parts are taken.
            audio: windows of sound of one clip, (K, samples) as floats of any precision in [−1, 1] or as int16, of
                which as many are taken; a list or batch of such clips; or a waveform (samples,), which is cut into
                windows around the midpoints of `num_frames` equal parts.
            sampling_rate: of `audio` in Hz; must be the extractor's. Without it a warning says what is taken for it.
            augment: random resized crop and flip of the frames, one draw a clip; sound is never augmented.
            generator: where these draws come from (CPU).
            device: where the work is done and the result lies; that of the input by default.
            return_tensors: `"pt"` (default) or `"np"`.

        Returns:
            `pixel_values` and `audio_values`, each (batch, K, 3, height, width) float32, as far as asked for; `.to` of
            the result takes another device and precision. The three channels of a spectrogram are one expanded, not
            three stored.

        Raises:
            ValueError: nothing given, a wrong rank, shape or dtype, empty input, sound with NaN or infinite samples, or
                another sampling rate.
        """
        if return_tensors not in ("pt", "np", None):
            raise ValueError(f"return_tensors must be 'pt' or 'np', got {return_tensors!r}")
        if videos is not None and audio is None and _rank(videos) == 1:
            videos, audio = None, videos  # pipelines hand over a waveform as first positional argument
        if videos is None and audio is None:
            raise ValueError("give videos, audio or both; got neither")
        data: dict[str, Tensor] = {}
        if videos is not None:
            clips = [_to_tensor(clip, device) for clip in _as_batch(videos, rank=4)]
            images = [self._frames_to_images(clip, augment=augment, generator=generator) for clip in clips]
            data["pixel_values"] = self._normalise(_stack_clips(images, "frames"))
        if audio is not None:
            self._check_rate(sampling_rate)
            sounds = _as_batch(audio, rank=1 if self._are_waveforms(audio) else self._clip_rank.get(_rank(audio), 2))
            clips = [_to_float(_to_tensor(sound, device)) for sound in sounds]
            data["audio_values"] = self._sounds_to_stacks(clips, augment=augment, generator=generator)
        if return_tensors == "np":
            return BatchFeature({name: value.cpu().numpy() for name, value in data.items()})
        return BatchFeature(data)

    @property
    def image_height_width(self) -> tuple[int, int]:
        """`image_size` as (height, width)."""
        if isinstance(self.image_size, int):
            return self.image_size, self.image_size
        height, width = self.image_size
        return height, width

    @property
    def window_samples(self) -> int:
        """Samples in one window of sound."""
        return round(self.window_seconds * self.sampling_rate)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Natural-log mel energies, (..., samples) in [−1, 1] → (..., mel bins, hops); equals librosa's."""
        flat = waveforms.reshape(-1, waveforms.shape[-1])
        at_once = WINDOWS_AT_ONCE if flat.device.type == "cpu" else max(1, len(flat))
        mel = torch.cat([self._log_mel(windows) for windows in flat.split(at_once)])
        return mel.view(*waveforms.shape[:-1], *mel.shape[1:])

    def _log_mel(self, windows: Tensor) -> Tensor:
        # In single precision faint bins beside a loud one would be off by up to 0.03 dB; Apple's GPUs know no double.
        precision = torch.float32 if windows.device.type == "mps" else torch.float64
        window = torch.as_tensor(self.window, device=windows.device, dtype=precision)
        spectrum = torch.stft(
            windows.to(precision),
            self.n_fft,
            self.hop_length,
            self.win_length,
            window,
            pad_mode="constant",
            return_complex=True,
        ).to(torch.complex64)
        power = spectrum.real.square() + spectrum.imag.square()
        filters = torch.as_tensor(self.mel_filters, device=windows.device)
        return (filters.T @ power).clamp(min=self.mel_floor).log()

    def spectrograms(self, waveforms: Tensor) -> Tensor:
        """Windows of sound (batch, K, samples) → (batch, K, 3, height, width), frequency up, time across."""
        images = self.log_mel(waveforms).flip(-2)
        images = nn.functional.interpolate(images, self.image_height_width, mode="bilinear", antialias=True)
        images = (images - self.audio_mean) / (2 * self.audio_std)
        if self.standardize:
            images = standardize(images, (-2, -1))
        return self.expand(images[:, :, None])

    def compact(self, audio_values: Tensor) -> Tensor:
        """`audio_values` without redundancy: one of the three equal channels, (batch, K, 1, height, width)."""
        return audio_values[:, :, :1]

    def expand(self, kept: Tensor) -> Tensor:
        """Inverse of [`compact`]: `audio_values` (batch, K, 3, height, width), as a view."""
        return kept.expand(-1, -1, 3, -1, -1)

    def denormalise(self, pixel_values: Tensor) -> Tensor:
        """Normalised frames (..., 3, height, width) → the same in 0..1."""
        return pixel_values * _per_channel(self.image_std, pixel_values) + _per_channel(self.image_mean, pixel_values)

    def _make_mel_filters(self) -> np.ndarray:
        """(frequency bins, mel bins)."""
        return mel_filter_bank(
            num_frequency_bins=self.n_fft // 2 + 1,
            num_mel_filters=self.num_mel_bins,
            min_frequency=0.0,
            max_frequency=self.sampling_rate / 2,
            sampling_rate=self.sampling_rate,
            norm="slaney",
            mel_scale="slaney",
        )

    def _make_window(self) -> Tensor:
        return torch.hann_window(self.win_length, dtype=torch.float64)

    def _sounds_to_stacks(self, clips: Sequence[Tensor], *, augment: bool, generator: torch.Generator | None) -> Tensor:
        """Sound of each clip as float, (K, samples) or (samples,) → what the model takes; never augmented (§4.3)."""
        return self.spectrograms(_stack_clips([self._sample(self._cut(clip)) for clip in clips], "windows of sound"))

    def _sample(self, parts: Tensor) -> Tensor:
        """Of more than `num_frames` frames or windows (parts, ...) those at the middles of that many equal parts."""
        if len(parts) <= self.num_frames:
            return parts
        return parts[[(2 * k + 1) * len(parts) // (2 * self.num_frames) for k in range(self.num_frames)]]

    def _are_waveforms(self, audio: Any) -> bool:
        """Whether a list holds waveforms, one a clip, and not the K windows of one clip."""
        if not isinstance(audio, (list, tuple)) or _rank(audio) != 2:
            return False
        return len(audio) != self.num_frames or any(len(sound) != self.window_samples for sound in audio)

    def _frames_to_images(self, frames: Tensor, *, augment: bool, generator: torch.Generator | None) -> Tensor:
        """(K, h, w, 3) or (K, 3, h, w) uint8 → (K, 3, height, width) in 0..255: one box and one flip for all frames."""
        if frames.dtype != torch.uint8:
            raise ValueError(f"frames must be uint8 in 0..255, got {frames.dtype}")
        frames = self._sample(_channels_first(frames))
        top, left, height, width = self._box(frames.shape[-2:], augment, generator)
        crop = frames[:, :, top : top + height, left : left + width]
        # The antialiasing kernel for bytes is the CPU's alone, where it is much faster than the one for floats.
        images = self._resize(crop if crop.device.type == "cpu" else crop.float())
        flipped = augment and torch.rand((), generator=generator) < self.flip_probability
        return images.flip(-1) if flipped else images

    def _normalise(self, images: Tensor) -> Tensor:
        """(..., K, 3, height, width) in 0..255 → as the model takes them; a whole batch at once."""
        mean, std = _per_channel(self.image_mean, images), _per_channel(self.image_std, images)
        images = (images.float() / 255 - mean) / std
        return standardize(images, (-3, -2, -1)) if self.standardize else images

    def _resize(self, images: Tensor) -> Tensor:
        """(K, 3, h, w) → (K, 3, height, width), in 0..255."""
        return nn.functional.interpolate(images, self.image_height_width, mode="bilinear", antialias=True)

    def _box(self, size: Sequence[int], augment: bool, generator: torch.Generator | None) -> tuple[int, int, int, int]:
        """Top, left, height, width: the largest centred box of the output's aspect, or a random one of §4.3."""
        rows, columns = size
        aspect = self.image_height_width[1] / self.image_height_width[0]
        area = float(rows * columns)
        place = torch.tensor([0.5, 0.5])
        if augment:
            draws = torch.rand(4, generator=generator)
            place = draws[:2]
            low, high = self.crop_scale
            area *= low + (high - low) * draws[2].item()
            low, high = (np.log(ratio) for ratio in self.crop_ratio)
            aspect *= float(np.exp(low + (high - low) * draws[3].item()))
        else:
            area = min(rows, columns / aspect) ** 2 * aspect
        height = min(rows, max(1, round((area / aspect) ** 0.5)))
        width = min(columns, max(1, round((area * aspect) ** 0.5)))
        return round((rows - height) * place[0].item()), round((columns - width) * place[1].item()), height, width

    def _cut(self, waveform: Tensor) -> Tensor:
        """Windows (K, samples); a waveform (samples,) is cut at the midpoints of K equal parts.

        Raises:
            ValueError: (channels, samples), which its length tells from windows.
        """
        if waveform.ndim == 2:
            if waveform.shape[1] != self.window_samples:
                raise ValueError(
                    f"expected windows of sound (K, {self.window_samples}), or a waveform (samples,), "
                    f"got {tuple(waveform.shape)}: mix the channels of a waveform, or cut it into windows"
                )
            return waveform
        missing = self.window_samples - len(waveform)
        if missing > 0:
            waveform = nn.functional.pad(waveform, (missing // 2, missing - missing // 2))
        midpoints = (torch.arange(self.num_frames) + 0.5) / self.num_frames * len(waveform)
        starts = (midpoints - self.window_samples / 2).round().long().clamp(0, len(waveform) - self.window_samples)
        return waveform.unfold(0, self.window_samples, 1)[starts.to(waveform.device)]

    def _check_rate(self, sampling_rate: int | None) -> None:
        if sampling_rate is None:
            logging.getLogger(__name__).warning(
                "sound came without its sampling rate and is taken for one of %d Hz: give sampling_rate=",
                self.sampling_rate,
            )
        elif sampling_rate != self.sampling_rate:
            raise ValueError(
                f"audio has a sampling rate of {sampling_rate} Hz, the extractor works at {self.sampling_rate} Hz: "
                "resample first, or let CMMixerProcessor read the file"
            )


def _rank(value: Any) -> int:
    """Number of dimensions of an array, a tensor, or nested lists of them."""
    if hasattr(value, "ndim"):
        return value.ndim
    if isinstance(value, (list, tuple)):
        return 1 + (_rank(value[0]) if len(value) else 0)
    return 3 if hasattr(value, "getbands") else 0  # a PIL image is (height, width, channels)


def _as_batch(value: Any, rank: int) -> Sequence[Any]:
    """One clip or many → many; a clip has `rank` dimensions."""
    got = _rank(value)
    if got not in (rank, rank + 1):
        raise ValueError(f"expected a clip of {rank} dimensions or a batch of them, got {got} dimensions")
    clips = [value] if got == rank else value
    if len(clips) == 0:
        raise ValueError("expected at least one clip, got an empty batch")
    return clips


def _stack_clips(clips: Sequence[Tensor], what: str) -> Tensor:
    """Clips (K, ...) as a batch, (batch, K, ...)."""
    if len({len(clip) for clip in clips}) > 1:
        raise ValueError(f"clips of one batch need one number of {what}, got {[len(clip) for clip in clips]}")
    return torch.stack(list(clips))


def _channels_first(frames: Tensor) -> Tensor:
    """(K, h, w, 3) or (K, 3, h, w), whichever they are → (K, 3, h, w)."""
    first, last = frames.shape[1] == 3, frames.shape[-1] == 3
    if first == last:
        reason = "which may be either" if first else "which is neither"
        expected = "(K, height, width, 3) or (K, 3, height, width)"
        raise ValueError(f"frames must be {expected}, got {tuple(frames.shape)}, {reason}")
    return frames if first else frames.permute(0, 3, 1, 2)


def standardize(images: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Mean 0 and variance 1 over `dims`; what is constant becomes 0."""
    centred = images - images.mean(dims, keepdim=True)
    return centred / centred.square().mean(dims, keepdim=True).sqrt().clamp(min=1e-6)


def _per_channel(value: float | list[float], images: Tensor) -> float | Tensor:
    """One number as it is, several so that they meet the channels of (..., channels, height, width)."""
    return torch.tensor(value, device=images.device)[:, None, None] if isinstance(value, list) else value


def _to_float(sound: Tensor) -> Tensor:
    """Samples in [−1, 1]."""
    if sound.dtype != torch.int16 and not sound.is_floating_point():
        raise ValueError(f"sound must be floats in [-1, 1] or int16, got {sound.dtype}")
    if sound.dtype == torch.int16:
        return sound.float() / 32768
    sound = sound.float()
    if not sound.isfinite().all():
        raise ValueError("sound holds NaN or infinite samples")
    return sound


def _to_tensor(clip: Any, device: torch.device | str | None) -> Tensor:
    if isinstance(clip, (list, tuple)) and len(clip):
        parts = [torch.as_tensor(_from_image(part)) for part in clip]
        if len(shapes := {tuple(part.shape) for part in parts}) > 1:
            raise ValueError(f"frames, or windows of sound, of one clip must have one shape, got {sorted(shapes)}")
        clip = torch.stack(parts)
    clip = torch.as_tensor(clip)
    if clip.numel() == 0:
        raise ValueError(f"expected frames or sound, got an empty clip of shape {tuple(clip.shape)}")
    return clip.to(device)


def _from_image(part: Any) -> Any:
    """A PIL image of any mode → RGB array; anything else stays."""
    return np.array(part.convert("RGB")) if hasattr(part, "getbands") else part


__all__ = ["CMMixerFeatureExtractor"]
