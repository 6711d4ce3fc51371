"""The log of a run: its losses as a history, lines of metrics, a progress bar and values for trackers."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from torch import Tensor

from ..progress import Progress
from .loader import RunOrder
from .run_folder import RunFolder
from .settings import TrainingSettings

LOSSES = ("loss", "video_loss", "audio_loss", "contrastive_loss", "kl_loss", "matching_loss")
# Entries that differ between two runs of the same training.
TIMINGS = ("samples_per_second", "waiting", "memory_gb")
_ADVICE = (
    "try a smaller learning rate, a longer warm-up, a smaller max_gradient_norm, or mixed_precision=no, in another "
    "output_dir or with resume=false"
)
_Item = TypeVar("_Item")


class TrainingDivergedError(RuntimeError):
    """The loss is no longer a number, or far above its start; the message says when and what to try."""


class TrainingLog:
    """Takes the losses of every batch; every `logging_steps` their means over batches and processes become an entry.

    An entry has `step`, `epoch`, `learning_rate`, `loss` (and those of `LOSSES` that it is a sum of),
    `gradient_norm` before clipping, `samples_per_second` of all processes, the share of the time spent `waiting` for
    clips, and `memory_gb`: the peak on a GPU, what the process holds on a CPU.

    Args:
        accelerator: for means over all processes, and for its trackers.
        folder: where the metrics go.
        settings: how often, and what counts as diverged.
        order: says what an epoch and a step are.
        bar: shows the progress in steps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        folder: RunFolder,
        settings: TrainingSettings,
        *,
        order: RunOrder,
        bar: Progress,
    ):
        self.accelerator = accelerator
        self.folder = folder
        self.settings = settings
        self.steps_per_epoch = order.steps_per_epoch
        self.samples_per_step = order.clips_per_batch * settings.repeats * order.batches_per_step
        self.bar = bar
        self.history: list[dict[str, float]] = []
        self.step = 0
        self._names: list[str] = []
        self._batches: list[Tensor] = []  # of the step that is under way, losses in the order of the names
        self._mine: list[Tensor] = []  # steps of this process: losses, norm of the gradient
        self._shared: list[list[float]] = []  # the same as means over all processes
        self._rates: list[float] = []  # learning rates of all these steps
        self._restart_clock()

    def timed(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """The items, adding the time waited for each to the share `waiting`."""
        iterator = iter(items)
        while True:
            started = time.perf_counter()
            item = next(iterator, None)
            self._waited += time.perf_counter() - started
            if item is None:
                return
            yield item

    def add(self, losses: Mapping[str, Tensor]) -> None:
        """One batch's losses, scalars."""
        self._names = list(losses)
        self._batches.append(torch.stack([value.detach().float() for value in losses.values()]))

    def finish_step(self, learning_rate: float, gradient_norm: Tensor) -> None:
        """The batches since the last call were one step of the optimiser.

        Raises:
            TrainingDivergedError: so says the mean over these steps.
        """
        self.step += 1
        losses = torch.stack(self._batches).mean(0)
        self._batches.clear()
        self._mine.append(torch.cat([losses, gradient_norm.detach().float().to(losses.device)[None]]))
        self._rates.append(learning_rate)
        self.bar.update()
        if self.step % self.settings.logging_steps == 0:
            self.flush()

    def flush(self) -> None:
        """Make an entry of the steps since the last one."""
        self._share()
        if not self._shared:
            return
        *losses, norms = np.array(self._shared).T
        rates, self._rates, self._shared = self._rates, [], []
        means = {name: float(values.mean()) for name, values in zip(self._names, losses, strict=True)}
        self._refuse_no_numbers(losses[0], rates)
        self._refuse_divergence(rates, means["loss"])
        seconds = time.perf_counter() - self._since
        timed = self.step - self._timed_from  # steps before a checkpoint took their time in another program
        timings = (timed * self.samples_per_step / seconds, self._waited / seconds, self._memory())
        finite = norms[np.isfinite(norms)]  # with fp16 a step may have none, and is left out
        self.write(
            {
                "learning_rate": rates[-1],
                **means,
                **({"gradient_norm": float(finite.mean())} if len(finite) else {}),
                **dict(zip(TIMINGS, timings, strict=True)),
            }
        )
        self._restart_clock()

    def write(self, values: Mapping[str, Any]) -> None:
        """An entry for where the run stands, to everything that keeps or shows it; values are scalars of any kind."""
        numbers = {"epoch": self.step / self.steps_per_epoch} | {name: float(value) for name, value in values.items()}
        entry = {"step": self.step, **numbers}
        self.history.append(entry)
        if self.accelerator.is_main_process:
            self.folder.append(entry)
        self.accelerator.log(numbers, step=self.step)
        shown = {name: f"{entry[name]:.3g}" for name in (*LOSSES, "samples_per_second", "memory_gb") if name in entry}
        if entry.get("waiting", 0) > 0.1:
            shown["waiting for clips"] = f"{entry['waiting']:.0%}"
        self.bar.set_postfix({name.replace("_", " "): value for name, value in shown.items()}, refresh=False)

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on as if nothing had happened; every process must ask for it at the same step.

        Raises:
            TrainingDivergedError: there is nothing to go on with: a loss since the last entry is no number.
        """
        self._share()
        self._refuse_no_numbers([losses for losses, *_ in self._shared], self._rates)
        return {
            "step": self.step,
            "history": self.history,
            "names": self._names,
            "steps": self._shared,
            "rates": self._rates,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a [`state_dict`]."""
        self.step, self.history = state["step"], list(state["history"])
        self._names, self._shared, self._rates = list(state["names"]), list(state["steps"]), list(state["rates"])
        self.bar.update(self.step - self.bar.n)
        self._restart_clock()

    def _share(self) -> None:
        """Turn this process's steps into means over all."""
        if self._mine:
            self._shared += self.accelerator.reduce(torch.stack(self._mine), reduction="mean").tolist()
            self._mine.clear()

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """What happens in the block, such as an evaluation, is not counted as time of training."""
        started = time.perf_counter()
        yield
        self._since += time.perf_counter() - started

    def _refuse_no_numbers(self, losses: Sequence[float], rates: Sequence[float]) -> None:
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad):
            step, rate = self.step - len(losses) + 1 + bad[0], rates[bad[0]]
            raise TrainingDivergedError(
                f"the loss is {losses[bad[0]]} at step {step}, learning rate {rate:.2e}: {_ADVICE}"
            )

    def _refuse_divergence(self, rates: Sequence[float], mean: float) -> None:
        first = next((entry["loss"] for entry in self.history if "loss" in entry), mean)
        factor = self.settings.divergence_factor
        if factor and mean > factor * max(first, 1.0):
            raise TrainingDivergedError(
                f"the loss is {mean:.3g} at step {self.step}, learning rate {rates[-1]:.2e}, after {first:.3g} at the "
                f"start: {_ADVICE}; or raise divergence_factor ({factor:g})"
            )

    def _memory(self) -> float:
        device = self.accelerator.device
        if device.type == "cuda":
            return torch.cuda.max_memory_allocated(device) / 1e9
        return psutil.Process().memory_info().rss / 1e9

    def _restart_clock(self) -> None:
        self._since, self._waited, self._timed_from = time.perf_counter(), 0.0, self.step
