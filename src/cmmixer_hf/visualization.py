"""Stacks → pictures: frames, coloured spectrograms, mixtures (Fig. 2), reconstructions (§5.3) and training curves.

Pictures are uint8 RGB arrays. Matplotlib and Pillow come with the extra `demo` and are imported where they are used.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .mixing import MIXERS
from .patching import unpatchify

if TYPE_CHECKING:
    from .modeling_cmmixer import CMMixerForPreTraining

RGB = npt.NDArray[np.uint8]
History = Sequence[Mapping[str, float]]

MIXER_TITLES = {"cutmix": "CutMix", "pixel": "Pixel Mixup", "mixup": "Mixup"}
HIDDEN = 128  # grey of a patch that the encoder does not see
WHITE = 255
LOUDEST = 0.995  # quantile at which the colour map ends, so that one click does not darken a whole clip
LEAST_RANGE = 0.1  # of the colour map in normalised units, so that rounding errors in silence stay black
MAX_COVERAGE = 1  # Pillow's way to choose a palette that keeps rare colours
SMOOTHING = 0.05  # width of the smoothed curve's window, as a share of the steps

# name in the history, words in the legend, colour (legible on white and on near-black), width in points
LINES = (
    ("loss", "loss", "currentColor", 1.6),
    ("video_loss", "video", "#3987e5", 1.4),
    ("audio_loss", "sound", "#e0752d", 1.4),
)
# Matplotlib knows no `currentColor`: it draws in this one, which the page's text colour then replaces.
INK = "#010203"


@dataclass(frozen=True)
class SeparationPictures:
    """One clip on its way through pre-training (§5.3), each a strip of K frames, (H, K · W + gaps, 3) uint8.

    Args:
        video, audio: the originals, the sound as a coloured spectrogram.
        mixture: Eq. 1 on the two pictures; where M is 1 the video shows.
        visible: the mixture as the encoder gets it, hidden patches grey.
        video_reconstruction, audio_reconstruction: the ORIGINAL where the encoder saw the mixture, and what the decoder
            predicts where it did not.
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

    A reconstruction shows the ORIGINAL at patches that were not masked and the prediction at those that were. The model
    is used as it is: call `model.eval()` before where it has dropout.

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
    shown = [torch.where(hidden, guess, stack)[0] for guess, stack in zip(predicted, stacks, strict=True)]
    peak = loudest(stacks[1])
    video, audio = frames_to_rgb(stacks[0][0], extractor), spectrograms_to_rgb(stacks[1][0], extractor, peak=peak)
    mixture = _blend(video, audio, output.mixing_mask)
    return SeparationPictures(
        video=strip(video),
        audio=strip(audio),
        mixture=strip(mixture),
        visible=strip(np.where(_as_picture(hidden), np.uint8(HIDDEN), mixture)),
        video_reconstruction=strip(frames_to_rgb(shown[0], extractor)),
        audio_reconstruction=strip(spectrograms_to_rgb(shown[1], extractor, peak=peak)),
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


def curves(histories: Mapping[str, History]) -> str:
    """Losses over steps as SVG, one panel a stage: the smoothed line over the raw one.

    The SVG is meant to stand inside a page: it takes the page's text colour and font, and loads nothing.

    Args:
        histories: stage → rows with `step`, `loss` and perhaps `video_loss` and `audio_loss`; the rest is not drawn.

    Raises:
        ValueError: no stage.
    """
    style = {"svg.fonttype": "none", "svg.hashsalt": " ".join(histories), "font.family": "sans-serif"}
    with _extra("matplotlib").rc_context(style):
        page = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        _draw_curves(histories).savefig(page, format="svg", transparent=True, metadata=nothing)
    return _inline(page.getvalue())


def curves_png(histories: Mapping[str, History]) -> bytes:
    """The same [`curves`] as a PNG file on white."""
    file = io.BytesIO()
    _draw_curves(histories).savefig(file, format="png", dpi=150)
    return file.getvalue()


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


def _blend(video: RGB, audio: RGB, mixing_mask: Tensor) -> RGB:
    """Eq. 1 on pictures (K, H, W, 3) with M of shape (1, K, 1, H, W)."""
    share = _as_picture(mixing_mask.float())
    return (share * video + (1 - share) * audio).round().astype(np.uint8)


def _draw_curves(histories: Mapping[str, History]) -> Any:
    """A figure with one panel a stage."""
    if not histories:
        raise ValueError("no training history to draw: give at least one stage")
    figure = _extra("matplotlib.figure").Figure(figsize=(4.6 * len(histories), 2.9), layout="constrained")
    for axes, stage in zip(figure.subplots(1, len(histories), squeeze=False)[0], histories, strict=True):
        _draw_panel(axes, stage, histories[stage])
    return figure


def _draw_panel(axes: Any, stage: str, history: History) -> None:
    axes.set_title(stage, loc="left", fontsize=12, color=INK)
    axes.set_xlabel("step", fontsize=10, color=INK)
    for name, words, colour, width in LINES:
        rows = [(row["step"], row[name]) for row in history if np.isfinite(row.get(name, np.nan))]
        if rows:
            steps, values = np.array(rows, dtype=float).T
            colour = INK if colour == "currentColor" else colour
            axes.plot(steps, values, color=colour, alpha=0.22, linewidth=0.8)
            axes.plot(steps, _smooth(values), color=colour, linewidth=width, label=words)
    if len(axes.lines) > 2:  # one name needs no legend
        axes.legend(frameon=False, labelcolor=INK, fontsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set(color=INK, alpha=0.4)
    axes.tick_params(colors=INK, labelsize=10, length=0)
    axes.grid(axis="y", color=INK, alpha=0.12, linewidth=0.8)
    axes.set_axisbelow(True)


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Running mean over [`SMOOTHING`] of the steps: narrow at the steep start, one-sided at the noisy end."""
    place = np.arange(len(values))
    before = np.minimum(round(len(values) * SMOOTHING / 2), place)
    after = np.minimum(before, place[::-1])
    totals = np.concatenate([[0.0], values.cumsum()])
    return (totals[place + after + 1] - totals[place - before]) / (before + after + 1)


def _inline(svg: str) -> str:
    """Make a file a part of a page: no prologue, no fixed size, no identifiers that two figures would share."""
    svg = svg[svg.index("<svg") :].strip()
    head, body = svg.split(">", 1)
    head = re.sub(r' (width|height)="[^"]*"', "", head) + ' stroke-linejoin="round"'
    body = re.sub(r"<(metadata|style).*?</\1>\s*", "", body, flags=re.DOTALL)
    body = re.sub(r"font-family: [^;]*; ", "", body)
    body = re.sub(r' id="([^"]+)"', lambda found: found[0] if f"#{found[1]})" in body else "", body)
    return f"{head}>{body}".replace(INK, "currentColor")
