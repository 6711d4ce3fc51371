"""Checkpoints that are whole or absent: the newest few are kept, and later damage is detected."""

import errno
import json
import logging
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
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
from .loader import RunOrder, count_steps
from .model_inputs import forward_names, without_adapters
from .settings import FREE, TrainingSettings

MANIFEST = "manifest.json"
_logger = logging.getLogger(__name__)


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
        return sorted(path for path in self.folder.glob("step-*") if re.fullmatch(r"step-\d{8,}", path.name))

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder beside the others, seal it, put it in its place, and delete the oldest ones.

        Raises:
            CheckpointError: the disk is full.
        """
        with _full_disk_in_words(self.folder), atomic_directory(self.folder / f"step-{step:08d}") as partial:
            write(partial)
            files = {path.relative_to(partial).as_posix(): file_digest(path) for path in _files(partial)}
            (partial / MANIFEST).write_text(json.dumps(files, indent=2), encoding="utf-8")
        for old in self.paths()[: -self.keep]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest that is whole, or `None` where there is none at all; damaged ones are warned of and passed over.

        Raises:
            CheckpointError: there are some, and all are damaged.
        """
        paths = self.paths()
        for path in reversed(paths):
            damage = _damage(path)
            if damage is None:
                return path
            _logger.warning("%s is damaged, %s: going on from the checkpoint before", path, damage)
        if paths:
            raise CheckpointError(f"all checkpoints in {self.folder} are damaged: start over with resume=false")
        return None

    def tidy(self, *, delete_all: bool = False) -> None:
        """Delete what killed writers left, and with `delete_all` every checkpoint; other files stay."""
        for path in [*self.folder.glob(".step-*"), *(self.paths() if delete_all else [])]:
            shutil.rmtree(path)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or `None`."""
    try:
        files: dict[str, str] = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if file_digest(path / name) != digest:
            return f"{name} has changed"
    return None


@contextmanager
def _full_disk_in_words(folder: Path) -> Iterator[None]:
    """Raise [`CheckpointError`] for a full disk, which libraries report in different ways; its free space decides."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if getattr(error, "errno", None) != errno.ENOSPC and free > 1 << 26:
            raise
        raise CheckpointError(
            f"the disk of {folder} is full ({free / 1e6:.0f} MB are free), and no checkpoint was written: free some "
            "space, or lower keep_checkpoints, and run the same command again; it goes on from the one before"
        ) from error


# The whole model; where only adapters are saved, what of the model trains; and everything else.
WEIGHTS, TRAINED, REST = "model.safetensors", "trained.safetensors", "training.pt"
# Settings of how long a run is: its number of steps stands for them.
LENGTH = {"epochs", "max_steps", "patience", "best_metric"}
# Fields of a configuration that depend on where it was made, loaded or shared.
NOT_OF_THE_RUN = {
    *(f"model.{name}" for name in ("transformers_version", "architectures", "_name_or_path", "dtype", "auto_map")),
    *("extractor.auto_map", "extractor.processor_class"),
}


def identity(
    settings: TrainingSettings, order: RunOrder, *, model: PreTrainedModel, extractor: CMMixerFeatureExtractor
) -> dict[str, Any]:
    """What must be equal for a run to continue from a checkpoint.

    That is every setting that is not free, a script's own ones among them, the configurations of model, adapters and
    extractor, the clips, and how they are batched ([`_batches`]).
    """
    sizes = list(order.shard_sizes)
    inner = without_adapters(model)
    parts = {"": asdict(settings), "model.": inner.config.to_dict(), "extractor.": extractor.to_dict()}
    parts |= {f"adapter.{name}.": config.to_dict() for name, config in getattr(model, "peft_config", {}).items()}
    chosen = {prefix + name: value for prefix, part in parts.items() for name, value in part.items()}
    names = sorted(set(chosen) - FREE - NOT_OF_THE_RUN - LENGTH - {"batch_size"})
    return {
        "model_class": type(inner).__name__,
        **{name: json.loads(json.dumps(chosen[name], default=_plain)) for name in names},
        **_batches(settings, order, clips_compete="track_id" in forward_names(model)),
        "steps": count_steps(settings, order),
        "clips": sum(sizes),
        "shard_sizes": sizes,
    }


def _batches(settings: TrainingSettings, order: RunOrder, *, clips_compete: bool) -> dict[str, int]:
    """The part of the batches that must stay the same.

    In general processes may change places with accumulation. Of a contrastive loss the negatives are the clips of one
    batch of all processes: they may change places with a larger batch, but never with accumulation, which adds none.
    """
    if not clips_compete:
        return {"batch_size": settings.batch_size, "batches_per_step": order.batches_per_step}
    together = order.clips_per_batch * order.batches_per_step
    return {"clips_that_compete": together // settings.accumulation_steps, "clips_per_step": together}


def _plain(value: Any) -> Any:
    """Values of an adapter's configuration that JSON cannot represent: sets of names, members of an enumeration."""
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)


class RunState:
    """The model, its optimiser and all else that a run needs to go on, as the files of a checkpoint.

    A checkpoint can be loaded with `from_pretrained` too. The main process alone writes and reads it; the others get
    what they need from it, so that their hosts do not need the folder.

    Args:
        accelerator: made the two that follow ready.
        model, optimizer: after [`Accelerator.prepare`].
        parts: what else has a `state_dict` and a `load_state_dict`, by name.
        identity: of the run.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Any,
        *,
        parts: Mapping[str, Any],
        identity: Mapping[str, Any],
    ):
        self.accelerator = accelerator
        self.model = model
        self.optimizer = optimizer.optimizer
        scaler = {} if accelerator.scaler is None else {"scaler": accelerator.scaler}
        self.parts = {**parts, **scaler}
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
        parts = {name: part.state_dict() for name, part in self.parts.items()}
        rest = {"optimizer": optimizer, "parts": parts, "identity": self.identity}

        def write(folder: Path) -> None:
            self._write_weights(folder, weights, write_model)
            torch.save(rest, folder / REST)

        if self.accelerator.is_main_process:
            checkpoints.save(step, write)
        self.accelerator.wait_for_everyone()

    def save_weights(self, folder: Path, write_model: Callable[[Path, dict[str, Any]], object]) -> None:
        """The weights alone, as a folder that is whole or absent; every process must come here at the same step."""
        weights = self.weights()
        if self.accelerator.is_main_process:
            with _full_disk_in_words(folder.parent), atomic_directory(folder) as partial:
                self._write_weights(partial, weights, write_model)
        self.accelerator.wait_for_everyone()

    def _write_weights(
        self, folder: Path, weights: dict[str, Any], write_model: Callable[[Path, dict[str, Any]], object]
    ) -> None:
        write_model(folder, weights)
        if not (folder / WEIGHTS).exists():  # an adapter was saved, under the names that peft gives it
            names = [
                name
                for name, value in self.accelerator.unwrap_model(self.model).named_parameters()
                if value.requires_grad
            ]
            save_file({name: weights[name].contiguous() for name in names}, folder / TRAINED)

    def load_weights(self, folder: Path | None) -> None:
        """Those of a checkpoint or of [`save_weights`]; the main process alone needs to see the `folder`."""
        weights: dict[str, Any] = {}
        whole = True
        if self.accelerator.is_main_process and folder is not None:
            whole = (folder / WEIGHTS).exists()
            weights = load_file(folder / (WEIGHTS if whole else TRAINED))
        (whole,) = broadcast_object_list([whole])
        if not whole:
            (weights,) = broadcast_object_list([weights])
        options = self._everywhere() if whole else StateDictOptions(strict=False)
        set_model_state_dict(self.model, weights, options=options)

    def _everywhere(self) -> StateDictOptions:
        return StateDictOptions(full_state_dict=True, broadcast_from_rank0=self.accelerator.num_processes > 1)

    def restore(self, checkpoints: Checkpoints) -> bool:
        """Go on from the newest whole checkpoint; `False` where there is none.

        Raises:
            CheckpointError: it belongs to another run, is no checkpoint of this package, or all are damaged.
        """
        path = checkpoints.newest() if self.accelerator.is_main_process else None
        rest: dict[str, Any] | None = _read_rest(path / REST) if path else None
        optimizer = rest.pop("optimizer") if rest else {}
        (rest,) = broadcast_object_list([rest])
        if rest is None:
            return False
        self._refuse_another_run(rest["identity"], rest["parts"]["log"]["step"], checkpoints.folder)
        self.load_weights(path)
        set_optimizer_state_dict(self.model, self.optimizer, optimizer, options=self._everywhere())
        for name, part in self.parts.items():
            part.load_state_dict(rest["parts"][name])
        return True

    def _refuse_another_run(self, saved: Mapping[str, Any], step: int, folder: Path) -> None:
        differing = [name for name in self.identity if saved.get(name) != self.identity[name]]
        if differing == ["steps"] and step == saved["steps"] < self.identity["steps"]:
            _logger.warning("a finished run of %d steps goes on to step %d", step, self.identity["steps"])
        elif differing:
            name = differing[0]
            was, now = (str(values.get(name))[:50] for values in (saved, self.identity))
            raise CheckpointError(
                f"{folder} holds a run with {name} = {was}, this one has {now}: {_ADVICE.get(name, 'set it back')}, "
                "choose another output_dir or start over with resume=false"
            )


# What to do where the name of what differs does not say it.
_ADVICE = {
    "clips_that_compete": "accumulation adds no negatives, so set batch_size, accumulation_steps and processes back",
    "steps": "only a finished run can be made longer, so set epochs or max_steps back",
}


def _read_rest(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"{path} is not what a training of this package writes, and was not opened, for a pickled file can run "
            "code: delete its folder if you do not know it, and run again"
        ) from error
