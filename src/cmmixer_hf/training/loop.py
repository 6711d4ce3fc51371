"""One loop on accelerate for pre-training (§3.3), retrieval (§3.4) and classification (§4.7): [`train`].

The same script runs on a laptop, under `torchrun --nproc_per_node 8` or `accelerate launch`, and on several hosts. What
is random in a batch depends on the seed and the batch's number in the run alone: a run that goes on after it was killed
equals one that was not, and processes that share the batches equal one process that accumulates them.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import send_to_device
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from ..data.batches import Clips, StackMaker, collate_clips
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..media.processing_cmmixer import CMMixerProcessor
from ..pictures.strips import draw_separation, sheet
from .checkpoints import Checkpoints, RunState, identity
from .loader import Batch, make_loader, plan_order
from .log import LOSSES, TrainingDivergedError, TrainingLog
from .model_card import write_model_card
from .model_inputs import ModelInputs
from .optimization import make_optimizer, make_schedule
from .run_folder import RunFolder
from .settings import TrainingSettings
from .stopping import StopSignals, TrainingStoppedError

__all__ = ["TrainingDivergedError", "TrainingSettings", "TrainingStoppedError", "train"]

Evaluate = Callable[[PreTrainedModel], Mapping[str, float]]
TRACKER_PROJECT = "cmmixer_hf"
logger = logging.getLogger(__name__)


def train(
    model: PreTrainedModel,
    clips: Clips,
    extractor: CMMixerFeatureExtractor,
    settings: TrainingSettings,
    *,
    evaluate: Evaluate | None = None,
    spectrograms: dict[str, Tensor] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` on prepared clips; the run folder `settings.output_dir` then holds it and all about its making.

    The same call goes on with a run that was interrupted, from its newest checkpoint.

    Args:
        model: what to train, in place and in float32: [`CMMixerForPreTraining`], [`CMMixerForRetrieval`] or a
            classifier, which takes its labels by the names in its configuration. What `forward` takes decides what is
            read and made of a clip.
        clips: [`load_prepared`], a selection of it, or a `datasets.Dataset` with the same columns.
        extractor: makes the stacks, on the device.
        settings: everything else.
        evaluate: scores of the model, in evaluation mode, every `evaluation_epochs`; they join the history. All
            processes call it.
        spectrograms: what `keep_spectrograms` keeps, by clip; runs on the same clips with the same extractor may share
            one.
        progress: show a bar.

    Returns:
        the history: an entry every `logging_steps` (see [`TrainingLog`]) and one for each evaluation.

    Raises:
        TrainingDivergedError: the loss is not finite, or far above its start.
        TrainingStoppedError: SIGTERM or Ctrl-C came, and a checkpoint is saved; it ends the program unless caught.
        CheckpointError: the run folder holds a run that differs in more than how it is run, or damaged checkpoints.
        SourceError: too few clips for one step, or a clip without what the model needs.
    """
    _in_float32(model)
    inputs = ModelInputs(model, extractor, settings, spectrograms=spectrograms)
    with _Run(model, clips, inputs, settings, evaluate=evaluate, progress=progress) as run, StopSignals() as stop:
        run.resume()
        for number, batch in run.batches():
            with run.accelerator.accumulate(run.model):
                _reseed(settings.seed, number)
                losses = run.losses(batch)
                run.accelerator.backward(losses["loss"])
                run.optimize()
            run.log.add(losses)
            if run.accelerator.sync_gradients:
                run.finish_step(stop)
        run.finish(stop)
    return run.log.history


class _Run:
    """The parts of one training, and the steps that the loop is made of."""

    def __init__(
        self,
        model: PreTrainedModel,
        clips: Clips,
        inputs: ModelInputs,
        settings: TrainingSettings,
        *,
        evaluate: Evaluate | None,
        progress: bool,
    ):
        self.settings, self.clips, self.inputs, self.evaluate = settings, clips, inputs, evaluate
        self.extractor = inputs.make_stacks.extractor
        self.title = type(model).__name__
        self.folder = RunFolder(settings.output_dir)
        self.checkpoints = Checkpoints(self.folder.path / "checkpoints", keep=settings.keep_checkpoints)
        self.accelerator = _make_accelerator(settings, self.folder)
        self.order = plan_order(clips, settings, self.accelerator.num_processes)
        self.steps = settings.max_steps or settings.epochs * self.order.steps_per_epoch
        if settings.activation_checkpointing:
            kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # as in 5.6
            getattr(model, f"{kind}_checkpointing_enable")()
        self.model, self.optimizer = self.accelerator.prepare(model.train(), make_optimizer(model, settings))
        self.schedule = make_schedule(
            self.optimizer, settings, steps_per_epoch=self.order.steps_per_epoch, steps=self.steps
        )
        hidden = not (progress and self.accelerator.is_main_process)
        bar = tqdm(total=self.steps, desc=self.title, unit="step", disable=hidden)
        self.log = TrainingLog(self.accelerator, self.folder, settings, order=self.order, bar=bar)
        others = {"schedule": self.schedule, "log": self.log}
        same = identity(settings, self.order, model=model, extractor=self.extractor)
        self.state = RunState(self.accelerator, self.model, self.optimizer, others=others, identity=same)
        self.gradient_norm = torch.zeros(())
        self.resumed_at = 0
        self._at_exit = ExitStack()
        self._at_exit.callback(bar.close)

    def __enter__(self) -> "_Run":
        device = self.accelerator.device
        self._at_exit.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        return self

    def __exit__(self, *_: object) -> None:
        self._at_exit.close()

    def resume(self) -> None:
        """Go on where the run stands, or begin; from here on the folder is this run's."""
        if self.accelerator.is_main_process:
            self.checkpoints.tidy(delete_all=not self.settings.resume)
        self.accelerator.wait_for_everyone()
        if self.state.restore(self.checkpoints):
            self.resumed_at = self.log.step
            logger.info("going on from step %d", self.log.step)
        if self.accelerator.is_main_process:
            self.folder.begin(self.settings, self.log.history, processes=self.accelerator.num_processes)
        self.start_trackers()

    def start_trackers(self) -> None:
        """Tell the trackers which run this is; what they write here goes to a folder of their own."""
        name = self.folder.path.name
        own = {"trackio": {"name": name}, "wandb": {"name": name, "dir": str(self.folder.path / "trackers")}}
        flat = {setting: str(value) for setting, value in asdict(self.settings).items()}
        self.accelerator.init_trackers(TRACKER_PROJECT, config=flat, init_kwargs=own)
        for tracker in self.accelerator.trackers:
            self._at_exit.callback(tracker.finish)

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """This process's batches from where the run stands, each with its number in the whole run."""
        first, last = (step * self.order.batches_per_step for step in (self.log.step, self.steps))
        numbers = range(first + self.accelerator.process_index, last, self.accelerator.num_processes)
        loader = make_loader(
            self.inputs.needed(self.clips),
            self.order,
            numbers,
            collate=self.inputs.collate,
            num_workers=self.settings.num_workers,
            streaming=self.settings.streaming,
            pin_memory=self.accelerator.device.type == "cuda",
        )
        return zip(numbers, self.log.timed(loader), strict=True)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's losses of a batch, `loss` first."""
        batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        output = self.model(**self.inputs(batch))
        return {name: output[name] for name in LOSSES if name in output}

    def optimize(self) -> None:
        """With the last batch of a step: clip the gradients and move the weights."""
        if self.accelerator.sync_gradients:
            most = self.settings.max_gradient_norm or math.inf
            self.gradient_norm = self.accelerator.clip_grad_norm_(self.model.parameters(), most)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def finish_step(self, stop: StopSignals) -> None:
        """Everything that is due after a step."""
        self.log.finish_step(max(map(float, self.schedule.get_last_lr())), self.gradient_norm)
        self.schedule.step()
        epoch, step_of_epoch = divmod(self.log.step, self.order.steps_per_epoch)
        if step_of_epoch == 0:
            self.finish_epoch(epoch)
        if self.log.step == self.steps:
            return
        signal_number = self.agree_to_stop(stop)
        if signal_number or _is_due(self.settings.save_steps, self.log.step):
            with self.log.untimed():
                self.save()
                self.draw_curves()
        if signal_number:
            logger.warning("stopped at step %d, with a checkpoint in %s", self.log.step, self.checkpoints.folder)
            raise TrainingStoppedError(signal_number)

    def finish_epoch(self, epoch: int) -> None:
        """Pictures and scores, when their epoch has come."""
        model = self.accelerator.unwrap_model(self.model)
        if _is_due(self.settings.picture_epochs, epoch) and hasattr(model, "draw_mixing_mask"):
            with self.log.untimed():
                self.draw(model, f"epoch-{epoch:04d}")
        if self.evaluate is not None and _is_due(self.settings.evaluation_epochs, epoch):
            self.log.flush()
            with self.log.untimed():
                self.log.write(self.evaluate(model.eval()))
        model.train()

    def draw(self, model: Any, name: str) -> None:
        """How the model takes the first clip apart, with the same mixture and hidden patches every time."""
        stacks = StackMaker(self.extractor)(collate_clips([self.clips[0]]))
        torch.manual_seed(self.settings.seed)
        pictures = draw_separation(model.eval(), **stacks, extractor=self.extractor)
        if self.accelerator.is_main_process:
            self.folder.save_picture(name, sheet(list(vars(pictures).values())))

    def agree_to_stop(self, stop: StopSignals) -> int:
        """The signal to stop for, or 0; several processes, of which not all may have got it, agree when they log."""
        if self.accelerator.num_processes == 1:
            return stop.received
        if self.log.step % self.settings.logging_steps:
            return 0
        received = torch.tensor([stop.received], device=self.accelerator.device)
        return int(self.accelerator.gather(received).max())

    def save(self) -> None:
        """A checkpoint of where the run stands."""
        self.state.save(self.checkpoints, self.log.step, self.write_model)

    def finish(self, stop: StopSignals) -> None:
        """The last entry and checkpoint, the model and its card; a signal too late for a step stops the program."""
        self.log.flush()
        trained = self.log.step > self.resumed_at
        if self.settings.save_steps and trained:
            self.save()
        weights = self.state.weights()
        if self.accelerator.is_main_process:
            self.folder.save_model(lambda folder: self.write_model(folder, weights))
            write_model_card(self.folder.path, evaluated=not trained)
        self.draw_curves()
        self.accelerator.wait_for_everyone()
        if stop.received:
            raise TrainingStoppedError(stop.received)

    def draw_curves(self) -> None:
        """The losses so far."""
        if self.accelerator.is_main_process:
            self.folder.draw_curves(self.title, self.log.history)

    def write_model(self, folder: Path, weights: dict[str, Any]) -> None:
        """The model and its processor, for `from_pretrained`."""
        with _no_other_bars():
            self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=weights)
        CMMixerProcessor(self.extractor).save_pretrained(folder)


def _make_accelerator(settings: TrainingSettings, folder: RunFolder) -> Accelerator:
    AcceleratorState._reset_state()  # else it stays what the process's first training made it: eager, for example
    return Accelerator(
        # Without this, processes on a machine that has no GPU would each train on their own.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.accumulation_steps,
        dynamo_backend="inductor" if settings.compile else None,
        log_with=None if settings.log_with == "none" else settings.log_with.split(","),
        project_dir=str(folder.path / "trackers"),
    )


def _in_float32(model: PreTrainedModel) -> None:
    """Weights in half precision, as many checkpoints have them, lose small steps and overflow in training."""
    halves = {parameter.dtype for parameter in model.parameters()} & {torch.float16, torch.bfloat16}
    if halves:
        logger.warning("weights in %s are trained, and saved, in float32", halves.pop())
        model.float()


def _reseed(seed: int, number: int) -> None:
    """Everything random in a batch (crops, mixture, mask, dropout) follows from the seed and the batch's number."""
    torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]))


@contextmanager
def _no_other_bars() -> Iterator[None]:
    """Saving a model would draw a bar through ours."""
    shown = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            hf_logging.enable_progress_bar()


def _is_due(every: int, count: int) -> bool:
    return every > 0 and count % every == 0
