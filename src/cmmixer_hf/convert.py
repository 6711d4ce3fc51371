"""Weights from elsewhere → ours: MAE's and transformers' ViTMAE's checkpoints, and the authors' released CMMixer.

Nothing is loaded silently: each conversion tells of every key whether it was used, replaced, left over or unfitting.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from torch import Tensor

from .atomic import atomic_directory
from .configuration_cmmixer import CMMixerConfig
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .modeling_cmmixer import CMMixerForPreTraining
from .patching import sincos_positions

WEIGHT_FILES = ("*.safetensors", "*.bin", "*.pth", "*.pt")
# Where a layout keeps what: the first rule that matches names our place. Decoders are ours of number 0, as in Solo.
PLACES = (
    (r"^(?:vit\.)?(?:embeddings\.)?cls_token$", "cmmixer.cls_token"),
    (
        r"^(?:vit\.)?(?:embeddings\.patch_embeddings\.projection|patch_embed\.proj)\.",
        "cmmixer.patch_embeddings.projection.",
    ),
    (r"^(?:vit\.)?(?:encoder\.layer|layers|blocks)\.", "cmmixer.layers."),
    (r"^(?:vit\.)?(?:layernorm|norm)\.", "cmmixer.layernorm."),
    (r"^(?:decoder\.)?mask_token$", "decoders.0.mask_token"),
    (r"^(?:decoder\.)?decoder_embed\.", "decoders.0.embed."),
    (r"^(?:decoder\.)?(?:decoder_layers|decoder_blocks|decoder_encoder\.layer)\.", "decoders.0.layers."),
    (r"^(?:decoder\.)?decoder_norm\.", "decoders.0.layernorm."),
    (r"^decoder_pred_img\.", "decoders.0.heads.video."),
    (r"^decoder_pred_mel\.", "decoders.0.heads.audio."),
    (r"^(?:decoder\.)?decoder_pred\.", "decoders.0.heads.*."),
)
# What the parts of a layer are called elsewhere.
PARTS = (
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.(?:attention\.output\.dense|attn\.proj)\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)
PAPER_DECODER = {
    name: getattr(CMMixerConfig, name)
    for name in (
        "decoder_hidden_size",
        "decoder_num_hidden_layers",
        "decoder_num_attention_heads",
        "decoder_intermediate_size",
    )
}
POSITIONS = re.compile(r"(?:^|\.)(?:pos_embed|decoder_pos_embed|position_embeddings)$")


@dataclass
class ConvertSettings:
    """Turn MAE, ViTMAE or released CMMixer weights into a model of ours, with a report of every key."""

    source: str = field(
        metadata={"help": "file, folder or Hub name of MAE's, ViTMAE's or the released CMMixer's weights"}
    )
    output_dir: str = field(metadata={"help": "folder for the model, its feature extractor and the report"})
    decoder_type: str = field(default="solo", metadata={"help": "solo or duet"})
    keep_decoder: bool = field(
        default=True, metadata={"help": "take over the decoder's sizes; else the paper's 256 × 4"}
    )


@dataclass
class ConversionReport:
    """What became of every key.

    Args:
        used: their key → the keys of ours that it filled.
        replaced: position tables → how far ours, which are computed, lie from theirs (largest difference; `None` where
            theirs is for another grid).
        unused: their keys that have no place in our model.
        unfitting: their key → both shapes; left out.
        missing: our keys that nothing filled, freshly initialised.
    """

    used: dict[str, list[str]] = field(default_factory=dict)
    replaced: dict[str, float | None] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    unfitting: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [f"used       {theirs} → {', '.join(ours)}" for theirs, ours in self.used.items()]
        lines += [f"replaced   {theirs}: computed, {_distance(value)}" for theirs, value in self.replaced.items()]
        lines += [f"unused     {theirs}" for theirs in self.unused]
        lines += [f"unfitting  {theirs}: {shapes}" for theirs, shapes in self.unfitting.items()]
        return "\n".join(lines + [f"missing    {ours}: freshly initialised" for ours in self.missing])


def convert(settings: ConvertSettings) -> ConversionReport:
    """Write other weights as a [`CMMixerForPreTraining`], and beside them `conversion.txt` with an account of each."""
    state = read_weights(settings.source)
    options = {} if settings.keep_decoder else PAPER_DECODER
    model = CMMixerForPreTraining(infer_config(state, decoder_type=settings.decoder_type, **options))
    report = load_weights(model, state)
    with atomic_directory(settings.output_dir) as folder:
        model.save_pretrained(folder)
        CMMixerFeatureExtractor().save_pretrained(folder)
        (Path(folder) / "conversion.txt").write_text(f"{report}\n")
    print(report)
    return report


def load_weights(model: CMMixerForPreTraining, state: Mapping[str, Tensor]) -> ConversionReport:
    """Fill `model` with another implementation's weights, given by its own names.

    Raises:
        ValueError: the layout is unknown, or the encoder would not be complete.
    """
    report = ConversionReport()
    places = model.state_dict()
    filled: dict[str, Tensor] = {}
    for theirs, tensor in state.items():
        theirs_bare = theirs.removeprefix("module.")
        if POSITIONS.search(theirs_bare):
            report.replaced[theirs] = _distance_to_computed(tensor)
            continue
        found = {ours: part for name, part in _translate(theirs_bare, tensor) for ours in _places(name, places)}
        for ours, part in found.items():
            if part.shape != places[ours].shape:
                report.unfitting[theirs] = f"{tuple(part.shape)} instead of {tuple(places[ours].shape)} of {ours}"
        if not found:
            report.unused.append(theirs)
        elif theirs not in report.unfitting:
            report.used[theirs] = list(found)
            filled |= found
    report.missing = [name for name in places if name not in filled]
    if incomplete := [name for name in report.missing if name.startswith("cmmixer.")]:
        raise ValueError(f"these weights leave the encoder incomplete: {incomplete[:5]} have no source\n{report}")
    model.load_state_dict(filled, strict=False)
    return report


def read_weights(source: str) -> dict[str, Tensor]:
    """Tensors by name from a file, a folder or a Hub repository: safetensors, or a pickle of nothing but tensors."""
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
            state |= load_file(file) if kind == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    state = state.get("model", state)  # type: ignore[assignment]  # MAE's files hold {"model": …}
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}


def infer_config(state: Mapping[str, Tensor], **options) -> CMMixerConfig:
    """The configuration that weights of a known layout fit: sizes from their shapes, heads of 64 in the encoder.

    The released CMMixer interleaves frames and has decoder heads of 16. Of a decoder only the sizes are taken;
    `options` override whatever they name.
    """
    shapes = {name: part.shape for theirs, tensor in state.items() for name, part in _translate(theirs, tensor)}
    if "cmmixer.cls_token" not in shapes or "cmmixer.layers.0.mlp.fc1.weight" not in shapes:
        raise ValueError(f"unknown layout: expected MAE's, ViTMAE's or CMMixer's names, got {list(state)[:5]}")
    hidden = shapes["cmmixer.cls_token"][-1]
    _, channels, _, patch = next(tensor.shape for tensor in state.values() if tensor.ndim == 4)
    sizes = {
        "patch_size": patch,
        "num_channels": channels,
        "hidden_size": hidden,
        "num_attention_heads": max(1, hidden // 64),
        "num_hidden_layers": _count(shapes, "cmmixer.layers."),
        "intermediate_size": shapes["cmmixer.layers.0.mlp.fc1.weight"][0],
    }
    if "decoders.0.embed.weight" in shapes:
        width = shapes["decoders.0.embed.weight"][0]
        sizes |= {
            "decoder_hidden_size": width,
            "decoder_num_hidden_layers": _count(shapes, "decoders.0.layers."),
            "decoder_num_attention_heads": 16,
            "decoder_intermediate_size": shapes["decoders.0.layers.0.mlp.fc1.weight"][0],
        }
    released = "decoders.0.heads.audio.weight" in shapes
    layout = {"frame_layout": "interleaved" if released else "side_by_side"}
    return CMMixerConfig(**(sizes | layout | options))


def _translate(theirs: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Our names and tensors for one of theirs; nothing where it has no place."""
    name = theirs.removeprefix("module.")
    place = next(((pattern, ours) for pattern, ours in PLACES if re.match(pattern, name)), None)
    if place is None:
        return
    name = re.sub(*place, name)
    for pattern, ours in PARTS:
        name = re.sub(pattern, ours, name)
    if name == "cmmixer.patch_embeddings.projection.weight":
        yield name, tensor.permute(0, 2, 3, 1).flatten(1)  # a strided convolution's kernel → rows, columns, channels
    elif ".attn.qkv." in name:
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            yield name.replace("attn.qkv", f"attention.{letter}_proj"), part
    else:
        yield name, tensor


def _places(name: str, places: Mapping[str, Tensor]) -> list[str]:
    """Where one of our names stands in a model: a shared decoder fills both of Duet, a shared head both modalities."""
    pattern = re.escape(name).replace(r"decoders\.0\.", r"decoders\.\d+\.").replace(r"\*", r"\w+")
    return [ours for ours in places if re.fullmatch(pattern, ours)]


def _count(names: Mapping[str, object], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})


def _distance_to_computed(table: Tensor) -> float | None:
    """Largest difference to our positions on the square grid that a table (1, 1 + tokens, dim) is for."""
    tokens, dim = table.shape[-2] - 1, table.shape[-1]
    side = round(tokens**0.5)
    if side * side != tokens:
        return None
    return (table[0, 1:].float() - sincos_positions(1, (side, side), dim)).abs().max().item()


def _distance(value: float | None) -> str:
    return "theirs is for another grid" if value is None else f"at most {value:.1e} from theirs"
