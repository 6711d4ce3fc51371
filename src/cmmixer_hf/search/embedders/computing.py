"""The number format an embedder computes in: float32, or a smaller one that is faster and slightly less accurate."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from ...data.prepared_clips import SourceError
from .embedder import Embedder

Compute = Literal["float32", "bfloat16", "int8"]
COMPUTES = get_args(Compute)


@contextmanager
def computing_in(embedder: Embedder, compute: Compute) -> Iterator[None]:
    """Let an embedder compute in a format; its identity stays that of its weights.

    Args:
        embedder: what [`open_embedder`] opened. `"int8"` changes it for good.
        compute: `"bfloat16"` is autocast; `"int8"` quantises the weights and inputs of linear
            layers, on CPUs alone: for those that have no bfloat16.

    Raises:
        SourceError: int8 on a GPU, or with a torch that has no such linear layers.
    """
    model: Any = getattr(embedder, "model", None)
    device = torch.device(getattr(model, "device", "cpu"))
    if compute == "int8":
        if device.type != "cpu" or model is None:
            raise SourceError(f"int8 computes on a CPU, this model is on {device}: take bfloat16")
        _quantize(model)
    with torch.autocast(device.type, torch.bfloat16, enabled=compute == "bfloat16"):
        yield


def _quantize(model: nn.Module) -> None:
    """Quantise linear layers dynamically, in place; torch plans to move this to torchao.

    Where the CPU has instructions for int8 products (VNNI), oneDNN's are faster than torch's default.
    """
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise SourceError(f"this torch ({torch.__version__}) has no int8 any more: take bfloat16") from error
    quantized, default = torch.backends.quantized, torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if torch.cpu._is_vnni_supported() and "onednn" in quantized.supported_engines:
            quantized.engine = "onednn"
        try:
            quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
        finally:
            quantized.engine = default
