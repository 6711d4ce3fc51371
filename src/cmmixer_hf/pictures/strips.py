"""Stacks → pictures: frames, coloured spectrograms, mixtures (Fig. 2) and reconstructions (§5.3).

Pictures are uint8 RGB arrays. Matplotlib and Pillow come with the extra `demo` and are imported where they are used.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.mixing import MIXERS
from ..models.patching import unpatchify

if TYPE_CHECKING:
    from ..models.modeling_cmmixer import CMMixerForPreTraining


RGB = npt.NDArray[np.uint8]

MIXER_TITLES = {"cutmix": "CutMix", "pixel": "Pixel Mixup", "mixup": "Mixup"}
HIDDEN = 128  # grey of a patch that the encoder does not see
WHITE = 255
LOUDEST = 0.995  # quantile at which the colour map ends, so that one click does not darken a whole clip
LEAST_RANGE = 0.1  # of the colour map in normalised units, so that rounding errors in silence stay black
MAX_COVERAGE = 1  # Pillow's way to choose a palette that keeps rare colours


@dataclass(frozen=True)
class SeparationPictures:
    """One clip on its way through pre-training (§5.3), each a strip of K frames, (H, K · W + gaps, 3) uint8.

    Args:
        video, audio: the originals, the sound as a coloured spectrogram.
        mixture: Eq. 1 on the two pictures; where M is 1 the video shows.
        visible: the mixture as the encoder gets it, hidden patches grey.
        video_reconstruction, audio_reconstruction: what the decoder predicts, everywhere; pale where the model was not
            trained to predict, at the patches that the encoder saw unless `loss_on="all"`.
    """

    video: RGB
    audio: RGB
    mixture: RGB
    visible: RGB
    video_reconstruction: RGB
    audio_reconstruction: RGB


def frames_to_rgb(pixel_values: Tensor, extractor: CMMixerFeatureExtractor) -> RGB:
    """Normalised frames (K, 3, H, W) → (K, H, W, 3) uint8: the extractor's normalisation undone, clipped to 0..255."""
    frames = extractor.denormalise(pixel_values.detach().float().cpu())
    return (frames * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


def spectrograms_to_rgb(audio_values: Tensor, extractor: CMMixerFeatureExtractor, *, peak: float | None = None) -> RGB:
    """Normalised spectrograms (K, 3, H, W) → (K, H, W, 3) uint8 in the colour map "magma".

    Black is the extractor's `mel_floor`, digital silence.

    Args:
        peak: normalised value of the brightest colour; by default [`loudest`] of these spectrograms. Give it to compare
            pictures with one another.
    """
    peak = loudest(audio_values) if peak is None else peak
    floor = (np.log(extractor.mel_floor) - extractor.audio_mean) / (2 * extractor.audio_std)
    energies = audio_values.detach().float().mean(1).cpu().numpy()
    shares = (energies - floor) / max(peak - floor, LEAST_RANGE)
    colours = _extra("matplotlib").colormaps["magma"](shares.clip(0, 1), bytes=True)
    return np.ascontiguousarray(colours[..., :3])


def loudest(audio_values: Tensor) -> float:
    """The value that 99.5 % of the energies in normalised spectrograms (..., H, W) do not exceed."""
    return float(np.quantile(audio_values.detach().float().cpu().numpy(), LOUDEST))


def strip(images: RGB, gap: int = 2) -> RGB:
    """Side by side: (K, H, W, 3) → (H, K · W + (K − 1) · gap, 3), with `gap` white columns between.

    >>> strip(np.zeros((8, 64, 48, 3), np.uint8)).shape
    (64, 398, 3)
    """
    padded = np.pad(images, ((0, 0), (0, 0), (0, gap), (0, 0)), constant_values=WHITE)
    joined = np.concatenate(list(padded), axis=1)
    return joined[:, : joined.shape[1] - gap]


def sheet(strips: Sequence[RGB], gap: int = 4) -> RGB:
    """Strips (H, W, 3) of one width beneath one another, with `gap` white rows between.

    >>> sheet([np.zeros((64, 398, 3), np.uint8)] * 2).shape
    (132, 398, 3)
    """
    padded = [np.pad(rows, ((0, gap), (0, 0), (0, 0)), constant_values=WHITE) for rows in strips]
    return np.concatenate(padded)[:-gap]


def enlarge(images: RGB, height: int) -> RGB:
    """Each pixel a square of whole pixels, so many that (..., H, W, 3) gets at least `height` rows.

    >>> enlarge(np.zeros((8, 64, 48, 3), np.uint8), 160).shape
    (8, 192, 144, 3)
    """
    factor = max(1, -(-height // images.shape[-3]))
    return images.repeat(factor, axis=-3).repeat(factor, axis=-2)


@torch.inference_mode()
def draw_separation(
    model: "CMMixerForPreTraining",
    pixel_values: Tensor,
    audio_values: Tensor,
    *,
    extractor: CMMixerFeatureExtractor,
    mixing_mask: Tensor | None = None,
    noise: Tensor | None = None,
) -> SeparationPictures:
    """Mix, hide and reconstruct one clip (§5.3).

    A reconstruction shows predictions alone, pale where the training loss does not cover them. The mode of the model is
    kept: call `model.eval()` before where it has dropout.

    Args:
        pixel_values, audio_values: normalised stacks of the clip, (1, K, 3, H, W), on any device.
        extractor: the one that made them.
        mixing_mask, noise: as in [`CMMixerForPreTraining.forward`]; drawn when absent.

    Raises:
        ValueError: more than one clip.
    """
    if len(pixel_values) != 1:
        raise ValueError(f"pictures are drawn of one clip at a time, got a batch of {len(pixel_values)}")
    stacks = [stack.to(model.device) for stack in (pixel_values, audio_values)]
    output = model(*stacks, mixing_mask=mixing_mask, noise=noise, return_loss=False)
    hidden = _hidden_pixels(output.mask, model.config.patch_size, stacks[0])
    logits = (output.video_logits.float(), output.audio_logits.float())
    predicted = [model.unpatchify(patches, stack) for patches, stack in zip(logits, stacks, strict=True)]
    peak = loudest(stacks[1])
    video, audio = frames_to_rgb(stacks[0][0], extractor), spectrograms_to_rgb(stacks[1][0], extractor, peak=peak)
    mixture = _blend(video, audio, output.mixing_mask)
    trained = _as_picture(hidden) | (model.config.loss_on == "all")
    seen, heard = (guess[0] for guess in predicted)
    return SeparationPictures(
        video=strip(video),
        audio=strip(audio),
        mixture=strip(mixture),
        visible=strip(np.where(_as_picture(hidden), np.uint8(HIDDEN), mixture)),
        video_reconstruction=strip(_pale(frames_to_rgb(seen, extractor), ~trained)),
        audio_reconstruction=strip(_pale(spectrograms_to_rgb(heard, extractor, peak=peak), ~trained)),
    )


def three_mixtures(
    pixel_values: Tensor,
    audio_values: Tensor,
    extractor: CMMixerFeatureExtractor,
    *,
    generator: torch.Generator | None = None,
) -> dict[str, RGB]:
    """Fig. 2: one clip under the three mixers → strips by the mixer's title ("CutMix", "Pixel Mixup", "Mixup").

    Args:
        pixel_values, audio_values: normalised stacks of the clip, (1, K, 3, H, W).
        generator: where the masks come from (CPU).
    """
    frames, _, *size = pixel_values.shape[1:]
    video = frames_to_rgb(pixel_values[0], extractor)
    audio = spectrograms_to_rgb(audio_values[0], extractor)
    masks = {MIXER_TITLES[name]: mixer(1, frames, tuple(size), generator=generator) for name, mixer in MIXERS.items()}
    return {title: strip(_blend(video, audio, mask)) for title, mask in masks.items()}


def png_bytes(image: RGB, *, colours: int | None = None) -> bytes:
    """(H, W, 3) uint8 → a PNG file, exact or with a palette of at most so many `colours`, which makes it smaller."""
    file = io.BytesIO()
    picture = _extra("PIL.Image").fromarray(image)
    (picture.quantize(colours, method=MAX_COVERAGE) if colours else picture).save(file, format="PNG", optimize=True)
    return file.getvalue()


def jpeg_bytes(image: RGB, *, height: int = 192) -> bytes:
    """A natural picture (H, W, 3) uint8 → a JPEG file, smoothly enlarged to `height` rows where it has fewer."""
    pillow = _extra("PIL.Image")
    rows, columns = image.shape[:2]
    picture = pillow.fromarray(image)
    if rows < height:
        picture = picture.resize((round(columns * height / rows), height), pillow.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=88)
    return file.getvalue()


def _extra(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        package = {"PIL": "Pillow"}.get(name.split(".")[0], name.split(".")[0])
        raise ImportError(f'pictures need {package}, which is missing: pip install "cmmixer_hf[demo]"') from error


def _hidden_pixels(mask: Tensor, patch_size: int, stack: Tensor) -> Tensor:
    """Mask over tokens (1, tokens), 1 is hidden → bool over pixels, (1, K, 1, H, W)."""
    patches = mask[..., None].expand(-1, -1, patch_size**2)
    return unpatchify(patches, patch_size, frames=stack.shape[1], size=(stack.shape[3], stack.shape[4])).bool()


def _as_picture(mask: Tensor) -> npt.NDArray[Any]:
    """(1, K, 1, H, W) → (K, H, W, 1)."""
    return mask[0].permute(0, 2, 3, 1).cpu().numpy()


def _pale(images: RGB, where: npt.NDArray[np.bool_]) -> RGB:
    """Pictures (K, H, W, 3), nearly white where (K, H, W, 1) says so."""
    return np.where(where, images // 4 + np.uint8(WHITE - WHITE // 4), images)


def _blend(video: RGB, audio: RGB, mixing_mask: Tensor) -> RGB:
    """Eq. 1 on pictures (K, H, W, 3) with M of shape (1, K, 1, H, W)."""
    share = _as_picture(mixing_mask.float())
    return (share * video + (1 - share) * audio).round().astype(np.uint8)
