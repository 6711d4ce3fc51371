"""The folder of a training run: settings, environment, metrics, curves, pictures, and the trained model."""

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ..files import atomic_file
from ..pictures.curves import curves_png
from ..pictures.strips import RGB, png_bytes
from .settings import write_settings

PACKAGES = ("cmmixer_hf", "torch", "transformers", "accelerate", "datasets", "numpy", "pyarrow", "av")


class RunFolder:
    """What a run leaves behind, each part whole or absent.

    `settings.yaml` (for `--config`), `environment.json`, `metrics.jsonl` (the history, an entry a line), `curves.png`
    (with Matplotlib), `pictures/`, `trackers/`, `checkpoints/`, and at the end the model, for `from_pretrained`,
    with its card, `README.md`.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)

    def begin(self, settings: Any, history: Sequence[dict[str, float]], *, processes: int) -> None:
        """Write down what is about to run; metrics from after the checkpoint that it goes on from are dropped."""
        with atomic_file(self.path / "settings.yaml") as partial:
            write_settings(partial, settings)
        with atomic_file(self.path / "environment.json") as partial:
            partial.write_text(json.dumps(describe_environment(processes), indent=2))
        with atomic_file(self.path / "metrics.jsonl") as partial:
            partial.write_text("".join(json.dumps(entry) + "\n" for entry in history))

    def append(self, entry: dict[str, float]) -> None:
        """One more line of metrics."""
        with (self.path / "metrics.jsonl").open("a") as file:
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


def describe_environment(processes: int = 1) -> dict[str, Any]:
    """Versions, machine and command of this program, ready for JSON."""
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package: version(package) for package in PACKAGES},
        "devices": devices or [platform.processor() or platform.machine()],
        "processes": processes,
        "cpus": os.cpu_count(),
    }
