"""Safe loading: no unpickled code, no randomly initialised weights, half precision only on request."""

import logging
import os
import re
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import torch
from transformers import PreTrainedModel

_logger = logging.getLogger(__name__)


class MissingWeightsError(ValueError):
    """A checkpoint lacks weights of the model that it was opened as; the message says which and what to do."""


class SafePreTrainedModel(PreTrainedModel):
    """A [`PreTrainedModel`] whose `from_pretrained` opens no pickles and leaves no weight at random.

    An unpickled file can run code, and a checkpoint from the Hub is anybody's file. Weights that the checkpoint does
    not hold would be drawn at random, with a warning that command lines hide: other ones at every load.
    """

    # Weights that a new head starts with: choosing the class is asking for them. Regular expressions.
    _new_weights: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        use_safetensors: bool | None = True,
        new_weights: Sequence[str] = (),
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> Self:
        """[`PreTrainedModel.from_pretrained`] with other defaults.

        Where a repository on the Hub has pickles only, transformers asks the Hub's converter for safetensors, and gives
        it your token if the repository is private; with `DISABLE_SAFETENSORS_CONVERSION=1` it refuses at once.

        Args:
            pretrained_model_name_or_path: a folder or a Hub name.
            args: for the model's `__init__`.
            use_safetensors: `False` opens pickled weights too.
            new_weights: regular expressions of weights that may start at random, such as `["^decoders"]`.
            output_loading_info: return the report of missing weights beside the model, instead of refusing them.
            kwargs: as in transformers; without `dtype` weights saved in half precision are loaded in float32.

        Raises:
            MissingWeightsError: the checkpoint lacks weights of this class.
        """
        options = {"use_safetensors": use_safetensors, "output_loading_info": True, **kwargs}
        loaded: Any = super().from_pretrained(pretrained_model_name_or_path, *args, **options)
        model, report = loaded
        if not {"dtype", "torch_dtype", "device_map", "quantization_config"} & kwargs.keys():
            _widen(model)
        if output_loading_info:
            return model, report  # type: ignore[return-value]  # as transformers does
        if pretrained_model_name_or_path is not None:
            allowed = (*cls._new_weights, *new_weights)
            missing = [key for key in report["missing_keys"] if not any(re.search(part, key) for part in allowed)]
            refuse_missing(model, str(pretrained_model_name_or_path), sorted(missing))
        return model


def refuse_missing(model: PreTrainedModel, source: str, missing: list[str]) -> None:
    """Refuse a `model` whose checkpoint, `source`, lacks these weights; nothing where none is missing."""
    if not missing:
        return
    saved = (model.config.architectures or ["another model"])[0]
    name = type(model).__name__
    advice = f"load it with {saved}" if saved != name else "the file is not whole: copy or download it again"
    raise MissingWeightsError(
        f"{source} holds a {saved}, which lacks {len(missing)} weights of {name} ({', '.join(missing[:3])}"
        f"{', …' * (len(missing) > 3)}): {advice}, or name what may start at random in new_weights"
    )


def _widen(model: PreTrainedModel) -> None:
    """Half precision to float32: on a CPU it is slow, and small steps of training are lost in it."""
    if model.dtype in (torch.float16, torch.bfloat16) and not getattr(model, "is_quantized", False):
        _logger.info("weights in %s are loaded in float32; dtype='auto' keeps them", model.dtype)
        model.float()
        model.config.dtype = torch.float32
