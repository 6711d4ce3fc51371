"""Weights come from safetensors: an unpickled file can run code, and a checkpoint from the Hub is anybody's file."""

import os
from typing import Any, Self

from transformers import PreTrainedModel


class SafePreTrainedModel(PreTrainedModel):
    """A [`PreTrainedModel`] whose `from_pretrained` neither opens nor downloads pickled weights unless told to."""

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,
        use_safetensors: bool | None = True,
        **kwargs: Any,
    ) -> Self:
        """[`PreTrainedModel.from_pretrained`] with another default: `use_safetensors=False` asks for pickles.

        `pretrained_model_name_or_path` is a folder or a Hub name, `args` go to the model's `__init__`. Where a
        repository on the Hub has pickles only, transformers asks the Hub's converter for safetensors, and gives it
        your token if the repository is private; with `DISABLE_SAFETENSORS_CONVERSION=1` it refuses at once.
        """
        return super().from_pretrained(pretrained_model_name_or_path, *args, use_safetensors=use_safetensors, **kwargs)
