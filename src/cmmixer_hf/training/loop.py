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
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list, send_to_device
from huggingface_hub import HfApi
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from ..data.batches import Clips, StackMaker, collate_clips
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..media.processing_cmmixer import CMMixerProcessor
from ..pictures.strips import draw_separation, sheet
from ..progress import Progress
from .best import BestWeights
from .checkpoints import Checkpoints, RunState, identity
from .demands import TrainingMemoryError, memory_advice, warn_of_days
from .loader import Batch, count_steps, make_loader, plan_order, read_batches
from .log import LOSSES, TrainingDivergedError, TrainingLog
from .model_card import write_model_card
from .model_inputs import ModelInputs, without_adapters
from .optimization import freeze, make_optimizer, make_schedule, set_learning_rates
from .run_folder import RunFolder, RunFolderError
from .settings import TrainingSettings
from .side_by_side import num_threads, side_by_side
from .stopping import StopSignals, TrainingStoppedError

__all__ = [
    "RunFolderError",
    "TrainingDivergedError",
    "TrainingMemoryError",
    "TrainingSettings",
    "TrainingStoppedError",
    "train",
]

Evaluate = Callable[[PreTrainedModel], Mapping[str, float]]
TRACKER_PROJECT = "cmmixer_hf"
_logger = logging.getLogger(__name__)


def train(
    model: PreTrainedModel,
    clips: Clips,
    extractor: CMMixerFeatureExtractor,
    settings: TrainingSettings,
    *,
    evaluate: Evaluate | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` on prepared clips; the run folder `settings.output_dir` then holds it and all about its making.

    The same call goes on with a run that was interrupted, from its newest checkpoint.

    Args:
        model: what to train, in place and in float32: [`CMMixerForPreTraining`], [`CMMixerForRetrieval`] or a
            classifier, which takes its labels by the names in its configuration. What `forward` takes decides what is
            read and made of a clip. With peft's adapters (`get_peft_model`, `add_adapter`) these alone are trained and
            saved.
        clips: [`load_prepared`], a selection of it, a `datasets.Dataset` with the same columns, or [`KeptClips`] of
            them, which several runs may share.
        extractor: makes the stacks, on the device.
        settings: everything else.
        evaluate: scores of the model, in evaluation mode, every `evaluation_epochs` or `evaluation_steps`; they join
            the history, and `best_metric` and `patience` go by them. All processes call it.
        progress: show a bar.

    Returns:
        the history: an entry every `logging_steps` (see [`TrainingLog`]) and one for each evaluation.

    Raises:
        TrainingDivergedError: the loss is not finite, or far above its start.
        TrainingMemoryError: a step needs more memory than there is.
        RunFolderError: another training writes to the run folder, or files lie there that no training wrote.
        ValueError: `freeze` names no part of the model or leaves nothing to train, or `best_metric` no score.
        TrainingStoppedError: SIGTERM or Ctrl-C came, and a checkpoint is saved; it ends the program unless caught.
        CheckpointError: the run folder holds a run that differs in more than how it is run, or damaged checkpoints.
        SourceError: too few clips for one step, a clip without what the model needs, or a stream, which cannot be
            resumed.
    """
    if settings.best_metric and evaluate is None:
        raise ValueError(f"best_metric ({settings.best_metric}) needs an evaluate, which scores the model")
    _in_float32(model)
    freeze(model, settings)
    inputs = ModelInputs(model, extractor, settings)
    inputs.check_labels(clips)
    run = _Run(model, clips, inputs, settings, evaluate=evaluate, progress=progress)
    with run, StopSignals() as stop, memory_advice(model, settings):
        # begin, or go on from the newest checkpoint
        run.resume()
        for number, batch in run.batches():
            with run.accelerator.accumulate(run.model):
                # what is random in a batch follows from its number
                _reseed(settings.seed, number)
                # clips → stacks → losses
                losses = run.losses(batch)
                # gradients; with the last batch of a step the weights move
                run.accelerator.backward(losses["loss"])
                run.optimize()
            run.log.add(losses)
            if run.accelerator.sync_gradients:
                # log, learning rate, pictures, scores and checkpoints that are due
                run.finish_step(stop)
        # the last or best weights, with their card, go to the run folder
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
        self.title = type(without_adapters(model)).__name__
        self.folder = RunFolder(settings.output_dir)
        self.checkpoints = Checkpoints(self.folder.path / "checkpoints", keep=settings.keep_checkpoints)
        self.best = BestWeights(self.folder.path / "best", settings)
        self.accelerator = _make_accelerator(settings, self.folder, partly=hasattr(model, "peft_config"))
        self.order = plan_order(clips, settings, self.accelerator.num_processes)
        self.steps = count_steps(settings, self.order)
        warn_of_days(model, settings, steps=self.steps)
        if settings.activation_checkpointing:
            kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # its former name
            getattr(model, f"{kind}_checkpointing_enable")()
        self.model, self.optimizer = self.accelerator.prepare(model.train(), make_optimizer(model, settings))
        self.schedule = make_schedule(
            self.optimizer, settings, steps_per_epoch=self.order.steps_per_epoch, steps=self.steps
        )
        hidden = not (progress and self.accelerator.is_main_process)
        bar = Progress(total=self.steps, desc=self.title, unit="step", disable=hidden)
        self.log = TrainingLog(self.accelerator, self.folder, settings, order=self.order, bar=bar)
        parts = {"schedule": self.schedule, "log": self.log, "best": self.best}
        same = identity(settings, self.order, model=model, extractor=self.extractor)
        self.state = RunState(self.accelerator, self.model, self.optimizer, parts=parts, identity=same)
        self.gradient_norm = torch.zeros(())
        self.resumed_at = 0
        self.threads = torch.get_num_threads()
        self._at_exit = ExitStack()
        self._at_exit.callback(bar.close)

    def __enter__(self) -> "_Run":
        device = self.accelerator.device
        self._at_exit.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        if self.accelerator.is_main_process:
            self._at_exit.enter_context(self.folder.held())
        self.accelerator.wait_for_everyone()
        self.forward = self._at_exit.enter_context(side_by_side(self.model, self.settings, self.accelerator))
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
            _logger.info("going on from step %d", self.log.step)
            set_learning_rates(self.schedule)
        if self.accelerator.is_main_process:
            if self.settings.push_to_hub:  # a name or token that does not work should not cost a training
                HfApi().create_repo(self.settings.push_to_hub, exist_ok=True)
            self.folder.begin(self.settings, self.log.history, processes=self.accelerator.num_processes)
        self.start_trackers()

    def start_trackers(self) -> None:
        """Start the trackers; what they write locally goes to a folder of their own."""
        name = self.folder.path.name
        own = {"trackio": {"name": name}, "wandb": {"name": name, "dir": str(self.folder.path / "trackers")}}
        flat = {setting: str(value) for setting, value in asdict(self.settings).items()}
        self.accelerator.init_trackers(TRACKER_PROJECT, config=flat, init_kwargs=own)
        for tracker in self.accelerator.trackers:
            self._at_exit.callback(tracker.finish)

    def batches(self) -> Iterator[tuple[int, Batch]]:
        """This process's batches from where the run stands, each with its number in the whole run.

        They end with the last step, or where `patience` is exhausted.
        """
        if self.best.exhausted:
            return
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
        for numbered in zip(numbers, self.log.timed(read_batches(loader)), strict=True):
            yield numbered
            if self.best.exhausted:
                return

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The model's losses of a batch, `loss` first."""
        batch = send_to_device(batch, self.accelerator.device, non_blocking=True)
        output = self.forward(**self.inputs(batch))
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
            self.draw(epoch)
        if self.evaluation_is_due():
            with self.log.untimed():
                self.score()
        if self.log.step == self.steps or self.best.exhausted:
            return
        signal_number = self.agree_to_stop(stop)
        if signal_number or _is_due(self.settings.save_steps, self.log.step):
            with self.log.untimed():
                self.save()
                self.draw_curves()
        if signal_number:
            where = self.log.step, self.steps, self.checkpoints.folder
            _logger.warning("stopped at step %d of %d, with a checkpoint in %s: the same command goes on", *where)
            raise TrainingStoppedError(signal_number)

    def draw(self, epoch: int) -> None:
        """Every `picture_epochs`: how the model separates the first clip, with the same mixture and mask each time."""
        model = without_adapters(self.accelerator.unwrap_model(self.model))
        if not _is_due(self.settings.picture_epochs, epoch) or not hasattr(model, "draw_mixing_mask"):
            return
        with self.log.untimed():
            stacks = StackMaker(self.extractor)(collate_clips([self.clips[0]]))
            torch.manual_seed(self.settings.seed)
            pictures = draw_separation(model.eval(), **stacks, extractor=self.extractor)
            model.train()
            if self.accelerator.is_main_process:
                self.folder.save_picture(f"epoch-{epoch:04d}", sheet(list(vars(pictures).values())))

    def evaluation_is_due(self) -> bool:
        """By steps or by epochs, and at the end where the best weights are wanted."""
        if self.evaluate is None:
            return False
        if self.settings.best_metric and self.log.step == self.steps:
            return True
        if self.settings.evaluation_steps:
            return _is_due(self.settings.evaluation_steps, self.log.step)
        epoch, step_of_epoch = divmod(self.log.step, self.order.steps_per_epoch)
        return step_of_epoch == 0 and _is_due(self.settings.evaluation_epochs, epoch)

    def score(self) -> None:
        """Evaluate; weights that are the best so far are kept."""
        model = self.accelerator.unwrap_model(self.model)
        self.log.flush()
        with num_threads(self.threads):
            scores = self.evaluate(model.eval())  # type: ignore[misc]  # it is due only where there is one
        model.train()
        self.log.write(scores)
        (scores,) = broadcast_object_list([{name: float(value) for name, value in scores.items()}])
        if self.best.judge(scores, self.log.step):
            self.state.save_weights(self.best.folder, self.write_model)

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
        if self.best.step not in (0, self.log.step):
            best = self.best
            _logger.warning("keeping the weights of step %d, %s %g", best.step, best.metric, best.score)
            self.state.load_weights(self.best.folder)
        weights = self.state.weights()
        if self.accelerator.is_main_process:
            self.folder.save_model(lambda folder: self.write_model(folder, weights))
            self.publish(evaluated=not trained)
        self.draw_curves()
        self.accelerator.wait_for_everyone()
        if stop.received:
            raise TrainingStoppedError(stop.received)

    def publish(self, *, evaluated: bool) -> None:
        """The model's card, where the folder holds a whole model and no adapter, and the upload, where it is wanted."""
        if (self.folder.path / "config.json").exists():
            write_model_card(self.folder.path, evaluated=evaluated)
        if name := self.settings.push_to_hub:
            try:
                self.folder.upload(name)
            except OSError as error:  # hours of training should not end in an error of the network
                path = self.folder.path
                _logger.error("%s could not be uploaded (%s): try `hf upload %s %s`", path, error, name, path)

    def draw_curves(self) -> None:
        """The losses so far."""
        if self.accelerator.is_main_process:
            self.folder.draw_curves(self.title, self.log.history)

    def write_model(self, folder: Path, weights: dict[str, Any]) -> None:
        """The model and its processor, for `from_pretrained`."""
        with _no_other_bars():
            self.accelerator.unwrap_model(self.model).save_pretrained(folder, state_dict=weights)
        CMMixerProcessor(self.extractor).save_pretrained(folder)


def _make_accelerator(settings: TrainingSettings, folder: RunFolder, *, partly: bool) -> Accelerator:
    """For a model of which a part may be frozen or trained `partly`, by adapters: some of that may have no gradient."""
    unused = partly or bool(settings.freeze or settings.freeze_layers)
    AcceleratorState._reset_state()  # else it stays what the process's first training made it: eager, for example
    return Accelerator(
        # Without this, processes on a machine that has no GPU would each train on their own.
        cpu=not torch.accelerator.is_available(),
        mixed_precision=settings.mixed_precision,
        gradient_accumulation_steps=settings.accumulation_steps,
        dynamo_backend="inductor" if settings.compile else None,
        log_with=None if settings.log_with == "none" else settings.log_with.split(","),
        project_dir=str(folder.path / "trackers"),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if unused else None,
    )


def _in_float32(model: PreTrainedModel) -> None:
    """Weights in half precision, as many checkpoints have them, lose small steps and overflow in training."""
    halves = {parameter.dtype for parameter in model.parameters()} & {torch.float16, torch.bfloat16}
    if halves:
        _logger.warning("weights in %s are trained, and saved, in float32", halves.pop())
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
