"""Trainings of a moment, for tests that start them here or in processes of their own."""

import itertools
import json
import os
import pkgutil
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from cmmixer_hf import (
    CMMixerConfig,
    CMMixerFeatureExtractor,
    CMMixerForPreTraining,
    CMMixerForRetrieval,
    CMMixerProcessor,
)
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.training.log import TIMINGS
from cmmixer_hf.training.loop import train
from cmmixer_hf.training.settings import TrainingSettings

# Equal to the last bit is promised for a CPU; a GPU has tests of its own.
os.environ.setdefault("ACCELERATE_USE_CPU", "true")

SIZES = {
    "image_size": 32, "num_frames": 2, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 2, "decoder_intermediate_size": 32,
}  # fmt: skip
EXTRACTOR = CMMixerFeatureExtractor(image_size=32, num_frames=2)


def make_settings(folder: Path, **changes: Any) -> TrainingSettings:
    quick = {"epochs": 4, "warmup_epochs": 1.0, "batch_size": 3, "logging_steps": 1, "learning_rate": 1e-3}
    return TrainingSettings(output_dir=str(folder), **(quick | changes))


def make_model(head: type = CMMixerForPreTraining, **options: Any) -> Any:
    """The same weights every time."""
    torch.manual_seed(0)
    return head(CMMixerConfig(**(SIZES | options)))


def make_adapted(way: str, base: Path, *, dropout: float = 0.1) -> Any:
    """A retriever with LoRA on its queries and values, its base saved under `base`."""
    peft = pytest.importorskip("peft", reason="adapters need peft")
    if not (base / "config.json").exists():
        make_model(CMMixerForRetrieval).save_pretrained(base)
        CMMixerProcessor(EXTRACTOR).save_pretrained(base)
    model = CMMixerForRetrieval.from_pretrained(base)
    torch.manual_seed(0)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], lora_dropout=dropout)
    if way == "get_peft_model":
        return peft.get_peft_model(model, config)
    model.add_adapter(config)
    return model


def run_training(
    clips: Path, folder: Path, head: type = CMMixerForPreTraining, **changes: Any
) -> list[dict[str, float]]:
    """A training on the prepared clips of a folder; its history."""
    options = changes.pop("config", {})
    return train(
        make_model(head, **options), load_prepared(clips), EXTRACTOR, make_settings(folder, **changes), progress=False
    )


def untimed(history: list[dict[str, float]]) -> list[dict[str, float]]:
    """A history without what differs between two runs of one training."""
    return [{name: value for name, value in entry.items() if name not in TIMINGS} for entry in history]


def final_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[Any]]:
    """Weights, state of the optimiser, and its groups and the history in the newest checkpoint."""
    newest = sorted(folder.glob("checkpoints/step-*"))[-1]
    rest = torch.load(newest / "training.pt", weights_only=True)
    state, groups = rest["optimizer"]["state"], json.dumps(rest["optimizer"]["param_groups"])
    return load_file(newest / "model.safetensors"), state, [groups, untimed(rest["parts"]["log"]["history"])]


def train_until_killed(clips: Path, folder: Path, where: str, changes: dict[str, Any]) -> None:
    """A training that kills itself with SIGKILL at the n-th call of a function: `where` is `"module:function:n"`."""
    module, name, count = where.split(":")
    original, calls = pkgutil.resolve_name(f"{module}:{name}"), itertools.count(1)

    def deadly(*arguments: Any, **options: Any) -> Any:
        if next(calls) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)

    with mock.patch(f"{module}.{name}", deadly):
        run_training(clips, folder, **changes)
