"""Names and shapes of weights elsewhere: MAE, transformers' ViTMAE, the released CMMixer, the released CAV-MAE.

A layout is a table of places, a table of the names of a layer's parts, and functions for what does not fit a table.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..models.configuration_cav_mae import CAVMAEConfig
from ..models.configuration_cmmixer import CMMixerConfig
from ..models.patching import sincos_positions

Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

# Their names → our places; the first rule that matches counts. Decoders are ours of number 0, as in Solo.
MAE_PLACES: Rules = (
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
PARTS: Rules = (
    (r"\.attention\.attention\.(query|key|value)\.", lambda match: f".attention.{match[1][0]}_proj."),
    (r"\.(?:attention\.output\.dense|attn\.proj)\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)
STREAM = {None: "joint", "a": "audio", "v": "video"}


def _in_stream(template: str) -> Callable[[re.Match], str]:
    """The template with the stream that a rule's one group names."""
    return lambda match: template.format(STREAM[match[1]])


CAV_MAE_PLACES: Rules = (
    (r"^patch_embed_([av])\.proj\.", _in_stream("cav_mae.branches.{}.projection.")),
    (r"^modality_([av])$", _in_stream("cav_mae.branches.{}.positions.modality_token")),
    (r"^pos_embed_([av])$", _in_stream("cav_mae.branches.{}.positions.offsets")),
    (r"^blocks_([av])\.", _in_stream("cav_mae.branches.{}.layers.")),
    (r"^blocks_u\.", "cav_mae.joint_layers."),
    (r"^norm(?:_([av]))?\.", _in_stream("cav_mae.layernorm.{}.")),
    (r"^mask_token$", "decoder.mask_token"),
    (r"^decoder_embed\.", "decoder.embed."),
    (r"^decoder_modality_([av])$", _in_stream("decoder.positions.{}.modality_token")),
    (r"^decoder_pos_embed_([av])$", _in_stream("decoder.positions.{}.offsets")),
    (r"^decoder_blocks\.", "decoder.layers."),
    (r"^decoder_norm\.", "decoder.layernorm."),
    (r"^decoder_pred_([av])\.", _in_stream("decoder.heads.{}.")),
    (r"^mlp_head\.0\.", "layernorm."),
    (r"^mlp_head\.1\.", "classifier."),
)
NORM = {"1": "layernorm_before", "2": "layernorm_after"}
CAV_MAE_PARTS: Rules = (
    (
        r"(?<=joint_layers)(\.\d+)\.norm([12])(?:_([av]))?\.",
        lambda match: f"{match[1]}.{NORM[match[2]]}.{STREAM[match[3]]}.",
    ),
    *PARTS,
)
POSITIONS = re.compile(r"(?:^|\.)(?:(?:decoder_)?pos_embed(?:_[av])?|position_embeddings)$")
# The released code gives a spectrogram's grid eight rows, whatever its length.
CAV_MAE_ROWS = 8


@dataclass(frozen=True)
class Layout:
    """One way to name weights.

    Args:
        translate: one of its names and tensors → ours; nothing where it has no place.
        distance: a position table's name and tensor → how far our computed one lies from it, `None` where it is for
            another grid.
        encoder: what our encoder's names begin with; all of it must be filled, but for
        fresh: names of ours that such weights cannot know.
        inactive: its names of weights that no forward pass reads.
    """

    translate: Callable[[str, Tensor], Iterable[tuple[str, Tensor]]]
    distance: Callable[[str, Tensor], float | None]
    encoder: str
    fresh: str = r"(?!)"
    inactive: str = r"(?!)"


def translate(name: str, tensor: Tensor, places: Rules, parts: Rules) -> Iterator[tuple[str, Tensor]]:
    """Our names and tensors for one of theirs; nothing where it has no place."""
    place = next(((pattern, ours) for pattern, ours in places if re.match(pattern, name)), None)
    if place is None:
        return
    for pattern, ours in (place, *parts):
        name = re.sub(pattern, ours, name)
    if tensor.ndim == 4:
        yield name, tensor.permute(0, 2, 3, 1).flatten(1)  # a strided convolution's kernel → rows, columns, channels
    elif ".attn.qkv." in name:
        for letter, part in zip("qkv", tensor.chunk(3), strict=True):
            yield name.replace("attn.qkv", f"attention.{letter}_proj"), part
    else:
        yield name, tensor


def translate_mae(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """MAE's, ViTMAE's and the released CMMixer's names → those of [`CMMixerForPreTraining`]."""
    return translate(name, tensor, MAE_PLACES, PARTS)


def translate_cav_mae(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The released CAV-MAE's names → ours; of a position table what it differs by from the computed one."""
    if POSITIONS.search(name):
        tensor = tensor - cav_mae_positions(name, tensor)
    return translate(name, tensor, CAV_MAE_PLACES, CAV_MAE_PARTS)


def cav_mae_positions(name: str, table: Tensor) -> Tensor:
    """The computed positions in place of one of CAV-MAE's tables, (1, tokens, dim)."""
    tokens, dim = table.shape[-2:]
    rows = CAV_MAE_ROWS if name.endswith("_a") else round(tokens**0.5)
    return sincos_positions(1, (rows, tokens // rows), dim)[None]


def translate_mae_to_cav_mae(name: str, tensor: Tensor, modality_layers: int) -> Iterator[tuple[str, Tensor]]:
    """MAE's names → CAV-MAE's, as its authors started it: each layer for both modalities, each norm for each stream.

    The projection of a spectrogram's one channel is the sum over the three colours', and its head the first third of
    the picture's. The cls token has no place.
    """
    for ours, part in translate_mae(name, tensor):
        if ours == "cmmixer.patch_embeddings.projection.weight":
            yield "cav_mae.branches.video.projection.weight", part
            yield "cav_mae.branches.audio.projection.weight", part.unflatten(1, (-1, 3)).sum(-1)
        elif ours.startswith("decoders.0.heads."):
            yield ours.replace("decoders.0.heads.*", "decoder.heads.video"), part
            yield ours.replace("decoders.0.heads.*", "decoder.heads.audio"), part[: len(part) // 3]
        else:
            yield from ((place, part) for place in _shared_places(ours, modality_layers))


def _shared_places(ours: str, modality_layers: int) -> list[str]:
    """Where one of CMMixer's names goes in CAV-MAE."""
    if layer := re.match(r"cmmixer\.layers\.(\d+)\.(.+)", ours):
        number, part = int(layer[1]), layer[2]
        if number < modality_layers:
            return [f"cav_mae.branches.{modality}.layers.{number}.{part}" for modality in ("audio", "video")]
        place = f"cav_mae.joint_layers.{number - modality_layers}."
        if not part.startswith("layernorm"):
            return [place + part]
        norm, _, weight = part.partition(".")
        return [f"{place}{norm}.{stream}.{weight}" for stream in STREAM.values()]
    if ours.startswith("cmmixer.layernorm."):
        return [ours.replace("cmmixer.layernorm", f"cav_mae.layernorm.{stream}") for stream in STREAM.values()]
    if ours == "cmmixer.patch_embeddings.projection.bias":
        return [f"cav_mae.branches.{modality}.projection.bias" for modality in ("audio", "video")]
    return [ours.replace("decoders.0.", "decoder.")] if ours.startswith("decoders.0.") else []


def _mae_distance(name: str, table: Tensor) -> float | None:
    """For a table (1, 1 + tokens, dim) of a square grid."""
    tokens, dim = table.shape[-2] - 1, table.shape[-1]
    side = round(tokens**0.5)
    if side * side != tokens:
        return None
    return (table[0, 1:].float() - sincos_positions(1, (side, side), dim)).abs().max().item()


def _cav_mae_distance(name: str, table: Tensor) -> float:
    return (table.float() - cav_mae_positions(name, table)).abs().max().item()


MAE = Layout(translate_mae, _mae_distance, "cmmixer.")
CAV_MAE = Layout(
    translate_cav_mae, _cav_mae_distance, "cav_mae.", inactive=r"^(?:blocks_[av]|decoder_blocks)\.\d+\.norm[12]_[av]\."
)


def mae_to_cav_mae(modality_layers: int) -> Layout:
    """MAE's names, for a CAV-MAE with so many layers for each modality."""
    return Layout(
        lambda name, tensor: translate_mae_to_cav_mae(name, tensor, modality_layers),
        _mae_distance,
        "cav_mae.",
        fresh=r"\.positions\.",
    )


def infer_config(state: Mapping[str, Tensor], **options) -> CMMixerConfig:
    """The configuration that weights of a known layout fit: sizes from their shapes, heads of 64 in the encoder.

    Of a decoder only the sizes are taken; `options` override any field. The released CMMixer's patches hold pixel
    columns of all frames in turn; here its weights start a model whose patches hold one frame each.
    """
    shapes = our_shapes(state, translate_mae)
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
    return CMMixerConfig(**(sizes | decoder_sizes(shapes, "decoders.0.") | options))


def infer_cav_mae_config(state: Mapping[str, Tensor], **options) -> CAVMAEConfig:
    """The configuration that the released CAV-MAE's weights fit; the size of pictures and sound from its tables.

    Positions are learned where a table is not the computed one, as after the published fine-tuning. Decoder heads are
    16. Whether patches were normalised in the loss no weight tells: the published recipes do so, but for inpainting.
    """
    shapes = our_shapes(state, translate_cav_mae)
    tables = {bare_name(name): table for name, table in state.items() if POSITIONS.search(bare_name(name))}
    if missing := {"pos_embed_a", "pos_embed_v"} - set(tables):
        raise ValueError(f"unknown layout: CAV-MAE's weights have position tables, these lack {sorted(missing)}")
    hidden, audio_pixels = shapes["cav_mae.branches.audio.projection.weight"]
    patch = round(audio_pixels**0.5)
    joint_layers = _count(shapes, "cav_mae.joint_layers.")
    sizes = {
        "patch_size": patch,
        "num_channels": shapes["cav_mae.branches.video.projection.weight"][1] // audio_pixels,
        "image_size": patch * round(tables["pos_embed_v"].shape[1] ** 0.5),
        "num_mel_bins": patch * CAV_MAE_ROWS,
        "audio_length": patch * (tables["pos_embed_a"].shape[1] // CAV_MAE_ROWS),
        "hidden_size": hidden,
        "num_attention_heads": max(1, hidden // 64),
        "num_joint_layers": joint_layers,
        "num_hidden_layers": joint_layers + _count(shapes, "cav_mae.branches.audio.layers."),
        "intermediate_size": shapes["cav_mae.joint_layers.0.mlp.fc1.weight"][0],
        "learned_positions": any(_cav_mae_distance(name, table) > 1e-3 for name, table in tables.items()),
    }
    if "classifier.bias" in shapes:
        sizes["num_labels"] = shapes["classifier.bias"][0]
    return CAVMAEConfig(**(sizes | decoder_sizes(shapes, "decoder.") | options))


def infer_cav_mae_config_from_mae(state: Mapping[str, Tensor]) -> CAVMAEConfig:
    """A CAV-MAE with MAE's layers, the last of them joint, and its decoder; pictures and sound as published."""
    config = infer_config(state)
    names = ("patch_size", "num_channels", "hidden_size", "num_attention_heads", "num_hidden_layers")
    sizes = {name: getattr(config, name) for name in (*names, "intermediate_size")}
    return CAVMAEConfig(**(sizes | decoder_sizes(our_shapes(state, translate_mae), "decoders.0.")))


def decoder_sizes(shapes: Mapping[str, torch.Size], decoder: str) -> dict[str, int]:
    """A decoder's sizes, where there is one; heads no shape tells: MAE and all after it have 16."""
    if f"{decoder}embed.weight" not in shapes:
        return {}
    return {
        "decoder_hidden_size": shapes[f"{decoder}embed.weight"][0],
        "decoder_num_hidden_layers": _count(shapes, f"{decoder}layers."),
        "decoder_num_attention_heads": 16,
        "decoder_intermediate_size": shapes[f"{decoder}layers.0.mlp.fc1.weight"][0],
    }


def our_shapes(
    state: Mapping[str, Tensor], translate_one: Callable[[str, Tensor], Iterable[tuple[str, Tensor]]]
) -> dict[str, torch.Size]:
    """Shapes of the translated weights by our names."""
    return {ours: part.shape for name, tensor in state.items() for ours, part in translate_one(bare_name(name), tensor)}


def bare_name(name: str) -> str:
    """Without what a parallel wrapper puts before it."""
    return name.removeprefix("module.")


def _count(names: Mapping[str, object], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)})
