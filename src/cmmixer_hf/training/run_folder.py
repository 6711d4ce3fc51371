"""The folder of a training run: settings, environment, metrics, curves, pictures, and the trained model."""

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import Timeout
from huggingface_hub import HfApi

from ..evaluation.results import package_versions
from ..files import atomic_file, locked
from ..pictures.loss_curves import curves_png
from ..pictures.strips import RGB, png_bytes
from .settings import write_settings

LOCK = "training.lock"
# Files that a run writes; in a folder that is not a run's they would be overwritten, so that it is refused.
OWN_FILES = (
    *("environment.json", "settings.yaml", "metrics.jsonl", "curves.png", "checkpoints", "best", "trackers"),
    *("pictures", "config.json", "model.safetensors", "processor_config.json", "README.md"),
)
NOT_UPLOADED = ["checkpoints/*", "best/*", "trackers/*", LOCK]
# Seconds. Workers of a killed run hold its lock until they end.
LOCK_PATIENCE = 10.0


class RunFolderError(OSError):
    """A folder that a training must not write to; the message says why and what to do."""


class RunFolder:
    """The files of a run, each whole or absent.

    `environment.json`, which marks the folder as a run's, `settings.yaml` (for `--config`), `metrics.jsonl` (the
    history, an entry a line), `curves.png` (with Matplotlib), `pictures/`, `trackers/`, `checkpoints/`, `best/`, and at
    the end the model, for `from_pretrained`, with its card, `README.md`. Files of other names are never touched.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings off the folder while the block runs; a killed one does not keep it.

        Raises:
            RunFolderError: files that no run has written lie in the way, or another training writes here.
        """
        strange = [name for name in OWN_FILES if (self.path / name).exists()]
        if strange and not self._is_of_a_run():
            raise RunFolderError(
                f"{self.path} holds {', '.join(strange)}, which no training wrote and this one would overwrite: choose "
                "another output_dir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.path / LOCK, patience=LOCK_PATIENCE):
                yield
        except Timeout as error:
            raise RunFolderError(
                f"another training writes to {self.path}: wait for it, stop it, or choose another output_dir"
            ) from error

    def _is_of_a_run(self) -> bool:
        try:
            environment = json.loads((self.path / "environment.json").read_text(encoding="utf-8"))
            return "cmmixer_hf" in environment["packages"]
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def begin(self, settings: Any, history: Sequence[dict[str, float]], *, processes: int) -> None:
        """Record environment and settings; metrics from after the checkpoint that it goes on from are dropped."""
        with atomic_file(self.path / "environment.json") as partial:
            partial.write_text(json.dumps(describe_environment(processes), indent=2), encoding="utf-8")
        with atomic_file(self.path / "settings.yaml") as partial:
            write_settings(partial, settings)
        with atomic_file(self.path / "metrics.jsonl") as partial:
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")

    def append(self, entry: dict[str, float]) -> None:
        """One more line of metrics."""
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def draw_curves(self, title: str, history: Sequence[dict[str, float]]) -> None:
        """The losses so far, where Matplotlib is installed."""
        losses = [entry for entry in history if "loss" in entry]
        if losses and importlib.util.find_spec("matplotlib"):
            with atomic_file(self.path / "curves.png") as partial:
                partial.write_bytes(curves_png({title: losses}))

    def save_picture(self, name: str, image: RGB) -> None:
        """`pictures/{name}.png`."""
        with atomic_file(self.path / "pictures" / f"{name}.png") as partial:
            partial.write_bytes(png_bytes(image))

    def save_model(self, write: Callable[[Path], object]) -> None:
        """Let `write` save a model aside, then put its files into the folder; an older model there is replaced."""
        partial = self.path / ".model"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write(partial)
        for file in sorted(partial.iterdir(), key=lambda file: file.name == "config.json"):  # without it none loads
            os.replace(file, self.path / file.name)
        partial.rmdir()

    def upload(self, name: str) -> None:
        """Upload the model, its card and all about its making to a repository on the Hub, which is made if need be.

        Raises:
            OSError: the Hub cannot be reached, or refuses.
        """
        HfApi().create_repo(name, exist_ok=True)
        HfApi().upload_folder(repo_id=name, folder_path=self.path, ignore_patterns=NOT_UPLOADED)


def describe_environment(processes: int = 1) -> dict[str, Any]:
    """Versions, machine and command of this program, ready for JSON."""
    versions = package_versions()
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "python": versions.pop("python"),
        "platform": platform.platform(),
        "packages": versions,
        "devices": devices or [platform.processor() or platform.machine()],
        "processes": processes,
        "cpus": os.cpu_count(),
    }
