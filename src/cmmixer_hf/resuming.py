"""Saving where a run stands and going on from there, the same for one process, for several, and for sharded models."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors.torch import load_file
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from transformers import PreTrainedModel

from .checkpoints import CheckpointError, Checkpoints
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .order import RunOrder
from .settings import FREE, TrainingSettings

WEIGHTS, REST = "model.safetensors", "training.pt"
# Facts in a model's configuration about the place where it was made or loaded.
NOT_OF_THE_RUN = {f"model.{name}" for name in ("transformers_version", "architectures", "_name_or_path", "dtype")}


def identity(
    settings: TrainingSettings, order: RunOrder, *, model: PreTrainedModel, extractor: CMMixerFeatureExtractor
) -> dict[str, Any]:
    """What must be equal for a run to go on from another's checkpoint and still be the same run.

    That is every setting that is not free, a script's own ones among them, the configurations of model and extractor,
    and the clips. Processes may change places with accumulation: what counts is how many batches make a step.
    """
    sizes = list(order.shard_sizes)
    parts = {"": asdict(settings), "model.": model.config.to_dict(), "extractor.": extractor.to_dict()}
    chosen = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    return {
        "model_class": type(model).__name__,
        **{name: json.loads(json.dumps(chosen[name])) for name in sorted(set(chosen) - FREE - NOT_OF_THE_RUN)},
        "batches_per_step": order.batches_per_step,
        "clips": sum(sizes),
        "shard_sizes": sizes,
    }


class RunState:
    """The model, its optimiser and all else that a run needs to go on, as the files of a checkpoint.

    A checkpoint can be loaded with `from_pretrained` too. The main process alone writes and reads it; the others get
    what they need from there, so that their hosts need not see the folder.

    Args:
        accelerator: made the two that follow ready.
        model, optimizer: after [`Accelerator.prepare`].
        others: what else has a `state_dict` and a `load_state_dict`, by name.
        identity: of the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Any,
        *,
        others: Mapping[str, Any],
        identity: Mapping[str, Any],
    ):
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer.optimizer
        scaler = {} if accelerator.scaler is None else {"scaler": accelerator.scaler}
        self.others = {**others, **scaler}
        self.identity = dict(identity)

    def weights(self) -> dict[str, Any]:
        """All weights on the CPU, under their own names; every process must ask."""
        return get_model_state_dict(self.model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))

    def save(self, checkpoints: Checkpoints, step: int, write_model: Callable[[Path, dict[str, Any]], object]) -> None:
        """Make a checkpoint; every process must come here at the same step.

        Args:
            checkpoints: where to.
            step: its name.
            write_model: saves the model with these weights to a folder.
        """
        weights = self.weights()
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=options)
        others = {name: part.state_dict() for name, part in self.others.items()}
        rest = {"optimizer": optimizer, "others": others, "identity": self.identity}

        def write(folder: Path) -> None:
            write_model(folder, weights)
            torch.save(rest, folder / REST)

        if self.accelerator.is_main_process:
            checkpoints.save(step, write)
        self.accelerator.wait_for_everyone()

    def restore(self, checkpoints: Checkpoints) -> bool:
        """Go on from the newest whole checkpoint; `False` where there is none.

        Raises:
            CheckpointError: it belongs to another run, or all are damaged.
        """
        weights: dict[str, Any] = {}
        rest: dict[str, Any] | None = None
        if self.accelerator.is_main_process and (path := checkpoints.newest()):
            weights = load_file(path / WEIGHTS)
            rest = torch.load(path / REST, map_location="cpu", weights_only=True)
        optimizer = rest.pop("optimizer") if rest else {}
        (rest,) = broadcast_object_list([rest])
        if rest is None:
            return False
        self._refuse_others(rest["identity"], checkpoints.folder)
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=self.accelerator.num_processes > 1)
        set_model_state_dict(self.model, weights, options=options)
        set_optimizer_state_dict(self.model, self.optimizer, optimizer, options=options)
        for name, part in self.others.items():
            part.load_state_dict(rest["others"][name])
        return True

    def _refuse_others(self, found: Mapping[str, Any], folder: Path) -> None:
        differing = [name for name in self.identity if found.get(name) != self.identity[name]]
        if differing:
            name = differing[0]
            was, now = (str(values.get(name))[:50] for values in (found, self.identity))
            raise CheckpointError(
                f"{folder} holds a run with {name} = {was}, this one has {now}: set it back, choose another output_dir "
                "or start over with resume=false"
            )
