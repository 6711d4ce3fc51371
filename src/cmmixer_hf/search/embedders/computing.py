"""What an embedder computes in: float32, or less for more sections a second, at a small cost in what it finds."""

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
        embedder: what [`open_embedder`] opened. With `"int8"` it computes so from now on.
        compute: `"bfloat16"` is autocast; `"int8"` keeps the weights of linear layers in whole numbers and brings each
            input to such, on CPUs alone: for those that have no bfloat16.

    Raises:
        SourceError: whole numbers on a GPU, or by a torch that has no linear layers of them.
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
    """Linear layers → their dynamic quantisation, in place; torch means to hand it over to torchao."""
    try:
        from torch.ao.quantization import quantize_dynamic
    except ImportError as error:
        raise SourceError(f"this torch ({torch.__version__}) has no int8 any more: take bfloat16") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
