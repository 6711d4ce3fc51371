"""Convert weights to ours: MAE's and transformers' ViTMAE's checkpoints, the released CMMixer's and CAV-MAE's.

Nothing is loaded silently: each conversion reports every key as used, replaced, unused, inactive or unfitting.
"""

import pickle
import re
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from ..data.prepared_clips import SourceError
from ..files import new_directory
from ..media.feature_extraction_cav_mae import CAVMAEFeatureExtractor
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..models.configuration_cmmixer import LAYER_SIZES, CMMixerConfig
from ..models.modeling_cav_mae import CAVMAEForAudioVisualClassification, CAVMAEForPreTraining
from ..models.modeling_cmmixer import CMMixerForPreTraining
from ..settings import ConvertSettings
from .layouts import (
    CAV_MAE,
    MAE,
    POSITIONS,
    Layout,
    bare_name,
    infer_cav_mae_config,
    infer_cav_mae_config_from_mae,
    infer_config,
    mae_to_cav_mae,
)

WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt")
PAPER_DECODER = {name: getattr(CMMixerConfig, name) for name in LAYER_SIZES if name.startswith("decoder")}


@dataclass
class ConversionReport:
    """The use of every key.

    Args:
        used: their key → the keys of ours that it filled.
        replaced: position tables → how far ours, which are computed, lie from theirs (largest difference; `None` where
            theirs is for another grid).
        unused: their keys that have no place in our model.
        inactive: their keys that no forward pass of theirs reads.
        unfitting: their key → both shapes; left out.
        missing: our keys that nothing filled, freshly initialised.
    """

    used: dict[str, list[str]] = field(default_factory=dict)
    replaced: dict[str, float | None] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    inactive: list[str] = field(default_factory=list)
    unfitting: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"used       {theirs} → {', '.join(ours)}" for theirs, ours in self.used.items()]
        lines += [f"replaced   {theirs}: computed, {_distance(value)}" for theirs, value in self.replaced.items()]
        lines += [f"unused     {theirs}" for theirs in self.unused]
        lines += [f"inactive   {theirs}: no forward pass reads it" for theirs in self.inactive]
        lines += [f"unfitting  {theirs}: {shapes}" for theirs, shapes in self.unfitting.items()]
        return "\n".join(lines + [f"missing    {ours}: freshly initialised" for ours in self.missing])


def convert(settings: ConvertSettings) -> ConversionReport:
    """Write other weights as a model of ours, and beside them `conversion.txt` with an account of each.

    MAE's become a [`CMMixerForPreTraining`] or, with `architecture="cav_mae"`, a [`CAVMAEForPreTraining`]; CAV-MAE's
    that one or, where they are fine-tuned, a [`CAVMAEForAudioVisualClassification`].

    Raises:
        FileExistsError: `output_dir` holds something already.
        WeightsFileError: the weights cannot be read, or not without running code.
        SourceError: they are of no layout that is known, or leave the encoder incomplete.
    """
    with new_directory(settings.output_dir) as folder:
        state = read_weights(settings.source)
        try:
            model, extractor, layout = build(state, settings)
            report = fill_weights(model, state, layout)
        except ValueError as error:
            raise SourceError(f"{settings.source}: {error}") from error
        model.save_pretrained(folder)
        extractor.save_pretrained(folder)
        (folder / "conversion.txt").write_text(f"{report}\n", encoding="utf-8")
    print(report)
    return report


def build(
    state: Mapping[str, Tensor], settings: ConvertSettings
) -> tuple[PreTrainedModel, CMMixerFeatureExtractor, Layout]:
    """The model that fits the weights, still without them, its extractor, and how they are named."""
    if any(bare_name(name).startswith("blocks_u.") for name in state):
        config = infer_cav_mae_config(state, classifier_stream=settings.classifier_stream)
        fine_tuned = any(bare_name(name).startswith("mlp_head.") for name in state)
        head = CAVMAEForAudioVisualClassification if fine_tuned else CAVMAEForPreTraining
        extractor = CAVMAEFeatureExtractor(image_size=config.image_size, audio_length=config.audio_length)
        return head(config), extractor, CAV_MAE
    if settings.architecture == "cav_mae":
        config = infer_cav_mae_config_from_mae(state)
        modality_layers = config.num_hidden_layers - config.num_joint_layers
        return CAVMAEForPreTraining(config), CAVMAEFeatureExtractor(), mae_to_cav_mae(modality_layers)
    options = {} if settings.keep_decoder else PAPER_DECODER
    model = CMMixerForPreTraining(infer_config(state, decoder_type=settings.decoder_type, **options))
    return model, CMMixerFeatureExtractor(), MAE


def fill_weights(model: PreTrainedModel, state: Mapping[str, Tensor], layout: Layout = MAE) -> ConversionReport:
    """Fill `model` with another implementation's weights, given by its own names.

    Raises:
        ValueError: the layout is unknown, or the encoder would not be complete.
    """
    report = ConversionReport()
    places = model.state_dict()
    filled: dict[str, Tensor] = {}
    for theirs, tensor in state.items():
        filled |= _account(report, theirs, tensor, layout, places)
    report.missing = [name for name in places if name not in filled]
    needed = [name for name in report.missing if name.startswith(layout.encoder) and not re.search(layout.fresh, name)]
    if needed:
        raise ValueError(f"these weights leave the encoder incomplete: {needed[:5]} have no source\n{report}")
    model.load_state_dict(filled, strict=False)
    return report


def _account(
    report: ConversionReport, theirs: str, tensor: Tensor, layout: Layout, places: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Our weights, by name, that one of theirs fills; it is entered into one list of the report."""
    name = bare_name(theirs)
    filled = {ours: part for known, part in layout.translate(name, tensor) for ours in _places(known, places)}
    misfits = [ours for ours, part in filled.items() if part.shape != places[ours].shape]
    if re.search(layout.inactive, name):
        report.inactive.append(theirs)
    elif misfits:
        wrong = misfits[-1]
        report.unfitting[theirs] = f"{tuple(filled[wrong].shape)} instead of {tuple(places[wrong].shape)} of {wrong}"
    elif filled:
        report.used[theirs] = list(filled)
        return filled
    elif POSITIONS.search(name):
        report.replaced[theirs] = layout.distance(name, tensor)
    else:
        report.unused.append(theirs)
    return {}


class WeightsFileError(OSError):
    """A file of weights that is not whole, or cannot be read without running code from it; the message names it."""


def read_weights(source: str) -> dict[str, Tensor]:
    """Tensors by name from a file, a folder or a Hub repository: safetensors, or a pickle of nothing but tensors.

    Training programs put the tensors beside other things, as `{"model": …}` (MAE's own) or `{"state_dict": …}`.

    Raises:
        WeightsFileError: a file is cut off or damaged, or holds more than tensors.
    """
    path = Path(source)
    if not path.exists():
        path = Path(snapshot_download(source, allow_patterns=list(WEIGHT_FILES)))
    files = [path] if path.is_file() else [file for pattern in WEIGHT_FILES for file in sorted(path.glob(pattern))]
    if not files:
        raise FileNotFoundError(f"{source} holds no weights: expected one of {', '.join(WEIGHT_FILES)}")
    kind = files[0].suffix
    state: dict[str, Tensor] = {}
    for file in files:
        if file.suffix == kind:
            state |= _read_tensors(file)
    if not state:
        raise WeightsFileError(f"{files[0]} holds no tensors by name: give the file that the training program saved")
    return state


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        with torch.serialization.safe_globals([Namespace]):  # the options that MAE's training saves beside its weights
            saved = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WeightsFileError(
            f"{file} holds more than weights{f' ({needed[1]})' if needed else ''}, and reading that could run code, so "
            "it was not opened: where you trust it, save its tensors alone with the program that made it"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsFileError(
            f"{file} ({file.stat().st_size:,} bytes) is cut off or damaged: copy or download it again"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(saved, dict) and isinstance(saved.get(key), Mapping):
            saved = saved[key]
    named = saved.items() if isinstance(saved, Mapping) else ()
    return {name: tensor for name, tensor in named if isinstance(tensor, Tensor)}


def _places(name: str, places: Mapping[str, Tensor]) -> list[str]:
    """Where one of our names stands in a model: a shared decoder fills both of Duet, a shared head both modalities."""
    pattern = re.escape(name).replace(r"decoders\.0\.", r"decoders\.\d+\.").replace(r"\*", r"\w+")
    return [ours for ours in places if re.fullmatch(pattern, ours)]


def _distance(value: float | None) -> str:
    return "theirs is for another grid" if value is None else f"at most {value:.1e} from theirs"
