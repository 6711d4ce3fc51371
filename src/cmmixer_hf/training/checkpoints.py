"""Checkpoints that are whole or absent: the newest few are kept, and one that was damaged later is noticed."""

import json
import logging
import shutil
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

from ..files import atomic_directory, file_digest
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from .loader import RunOrder
from .settings import FREE, TrainingSettings

MANIFEST = "manifest.json"
logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A run cannot go on from its checkpoints; the message says why and what to do."""


class Checkpoints:
    """The checkpoints of one run, `step-00000500` and so on under `folder`.

    Args:
        folder: where they lie; made when the first is saved.
        keep: how many to keep.

    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=2)
    >>> for step in (10, 20, 30):
    ...     checkpoints.save(step, lambda folder: (folder / "state").write_text("weights"))
    >>> [path.name for path in checkpoints.paths()], checkpoints.newest().name
    (['step-00000020', 'step-00000030'], 'step-00000030')
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """All that are there, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder beside the others, seal it, put it in its place, and delete the oldest ones."""
        with atomic_directory(self.folder / f"step-{step:08d}") as partial:
            write(partial)
            files = {path.relative_to(partial).as_posix(): file_digest(path) for path in _files(partial)}
            (partial / MANIFEST).write_text(json.dumps(files, indent=2))
        for old in self.paths()[: -self.keep]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest that is whole, or `None` where there is none at all; damaged ones are warned of and passed over.

        Raises:
            CheckpointError: there are some, and all are damaged.
        """
        found = self.paths()
        for path in reversed(found):
            damage = _damage(path)
            if damage is None:
                return path
            logger.warning("%s is damaged, %s: going on from the checkpoint before", path, damage)
        if found:
            raise CheckpointError(f"all checkpoints in {self.folder} are damaged: start over with resume=false")
        return None

    def tidy(self, *, delete_all: bool = False) -> None:
        """Delete what killed writers left, or everything."""
        for path in self.folder.glob("*" if delete_all else ".*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:  # such as .DS_Store
                path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or `None`."""
    try:
        files: dict[str, str] = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if file_digest(path / name) != digest:
            return f"{name} has changed"
    return None


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
