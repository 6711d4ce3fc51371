"""Pre-training's step beside transformers' VideoMAE and ViTMAE on the same tokens, in one interleaved run.

    python benchmarks/training.py                  # CPU: process time of one thread, batch 1
    python benchmarks/training.py --device cuda    # GPU: CUDA events, batch 64, compiled too
    python benchmarks/training.py --quick          # small models, seconds; what the test runs

A step is forward, backward and a fused AdamW step on random inputs: ViT-Base, 8 frames of 224 × 224, half of the tokens
hidden, a decoder of 4 × 256. VideoMAE has tubelets of one frame, hence the same 1568 tokens; ViTMAE sees the 8 frames
as independent pictures. FLOPs are those of matrix products and attention without recomputation. `retrieval` is the
fine-tuning step of both towers, `retrieval-half` the same on a random half of the tokens of each
(`token_drop_rate`); `examples/README.md` says what that does to the scores.
Prints Markdown; `--output` keeps the numbers as JSON.
"""

import json
import multiprocessing
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from transformers import HfArgumentParser, VideoMAEConfig, VideoMAEForPreTraining, ViTMAEConfig, ViTMAEForPreTraining

from cmmixer_hf import CMMixerConfig, CMMixerForPreTraining, CMMixerForRetrieval

PRETRAINING = ("CMMixer", "VideoMAE", "ViTMAE")
FINETUNING = ("retrieval", "retrieval-half")
REFERENCE = "VideoMAE"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}
MODES = ("eager", "compiled")


@dataclass
class BenchmarkSettings:
    """Measure training steps."""

    device: str = field(default="cpu", metadata={"help": "cpu or cuda"})
    batch_size: int | None = field(default=None, metadata={"help": "clips a step; 1 on a CPU, 64 on a GPU"})
    rounds: int = field(default=5, metadata={"help": "rounds in which all contestants take turns"})
    steps: int | None = field(default=None, metadata={"help": "steps a turn; 1 on a CPU, 5 on a GPU"})
    compiled: bool | None = field(default=None, metadata={"help": "torch.compile too; on a GPU by default"})
    quick: bool = field(default=False, metadata={"help": "small models"})
    contestants: list[str] = field(
        default_factory=lambda: [*PRETRAINING, *FINETUNING], metadata={"help": "who takes part"}
    )
    precisions: list[str] = field(default_factory=lambda: [*PRECISIONS], metadata={"help": "fp32 and bf16 autocast"})
    output: str | None = field(default=None, metadata={"help": "JSON file for the numbers"})

    def __post_init__(self) -> None:
        on_gpu = self.device != "cpu"
        self.batch_size = self.batch_size or (64 if on_gpu and not self.quick else 1)
        self.steps = self.steps or (5 if on_gpu else 1)
        self.compiled = on_gpu if self.compiled is None else self.compiled


def sizes(quick: bool) -> dict[str, Any]:
    """Keywords that all configurations share: ViT-Base, or a toy."""
    encoder, decoder = ((32, 1, 2, 64), (16, 1, 2, 32)) if quick else ((768, 12, 12, 3072), (256, 4, 4, 1024))
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    shared = dict(zip(names, encoder, strict=True))
    shared |= {f"decoder_{name}": value for name, value in zip(names, decoder, strict=True)}
    return shared | {"image_size": 32 if quick else 224, "norm_pix_loss": False}


@dataclass
class Contestant:
    """A model in training mode on the device, a batch of `clips` for it, and its optimiser."""

    name: str
    model: nn.Module
    inputs: dict[str, Tensor]
    clips: int

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)


def make_contestant(name: str, settings: BenchmarkSettings) -> Contestant:
    """One of those above by name; on a GPU both towers get a quarter of the batch: they see four times the tokens."""
    torch.manual_seed(0)
    shared, frames = sizes(settings.quick), 2 if settings.quick else 8
    side, clips = shared["image_size"], settings.batch_size
    if name in FINETUNING and settings.device != "cpu":
        clips = -(-clips // 4)
    stack = torch.randn(clips, frames, 3, side, side)
    inputs = {"pixel_values": stack}
    model: nn.Module
    if name == "VideoMAE":
        model = VideoMAEForPreTraining(VideoMAEConfig(**shared, num_frames=frames, tubelet_size=1))
        tokens = frames * (side // 16) ** 2
        hidden = torch.rand(clips, tokens).argsort(1) < tokens // 2
        inputs["bool_masked_pos"] = hidden
    elif name == "ViTMAE":
        model = ViTMAEForPreTraining(ViTMAEConfig(**shared, mask_ratio=0.5))
        inputs = {"pixel_values": stack.flatten(0, 1)}
    else:
        rate = 0.5 if name == "retrieval-half" else 0.0
        config = CMMixerConfig(**shared, num_frames=frames, token_drop_rate=rate)
        model = CMMixerForRetrieval(config) if name in FINETUNING else CMMixerForPreTraining(config)
        inputs["audio_values"] = torch.randn_like(stack)
    inputs = {key: value.to(settings.device) for key, value in inputs.items()}
    return Contestant(name, model.to(settings.device).train(), inputs, clips)


class Runner:
    """Training steps of a contestant in one precision, eager or compiled."""

    def __init__(self, contestant: Contestant, *, precision: str, compiled: bool):
        self.contestant = contestant
        self.precision, self.compiled = precision, compiled
        self.forward = torch.compile(contestant.model) if compiled else contestant.model

    @property
    def kind(self) -> dict[str, str]:
        """What tells it from the others."""
        return {"model": self.contestant.name, "precision": self.precision, "mode": MODES[self.compiled]}

    def step(self) -> None:
        """Forward, backward, AdamW."""
        inputs, optimizer = self.contestant.inputs, self.contestant.optimizer
        device = inputs["pixel_values"].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = self.forward(**inputs)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def seconds(work: Callable[[], Any], device: str, repeats: int) -> float:
    """What one call takes: by CUDA's own events on a GPU, in CPU time of this process elsewhere."""
    if device == "cpu":
        start = time.process_time()
        for _ in range(repeats):
            work()
        return (time.process_time() - start) / repeats
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    for _ in range(repeats):
        work()
    last.record()
    torch.cuda.synchronize()
    return first.elapsed_time(last) / 1000 / repeats


def count_flops(contestant: Contestant) -> int:
    """Of matrix products and attention, forward and backward, of one clip, two a multiply-accumulate."""
    one_clip = {name: value[: len(value) // contestant.clips] for name, value in contestant.inputs.items()}
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        contestant.model(**one_clip)["loss"].backward()
    contestant.model.zero_grad()
    return counter.get_total_flops()


def matrix_products(precision: str, settings: BenchmarkSettings) -> list[tuple[Tensor, Tensor]]:
    """Factors of the products whose fastest is the machine's peak: large squares, and the encoder's MLP."""
    large = 2048 if settings.device == "cpu" else 8192
    shapes = [(64, 64, 64)] if settings.quick else [(large, large, large), (settings.batch_size * 785, 768, 3072)]
    options = {"device": settings.device, "dtype": PRECISIONS[precision]}
    return [
        (torch.randn(rows, inner, **options), torch.randn(inner, columns, **options)) for rows, inner, columns in shapes
    ]


def peak_rate(factors: list[tuple[Tensor, Tensor]], device: str) -> float:
    """FLOPs a second of the fastest product."""
    rates = []
    for left, right in factors:
        flops = 2 * left.shape[0] * left.shape[1] * right.shape[1]
        rates.append(flops / seconds(lambda left=left, right=right: left @ right, device, repeats=5))
    return max(rates)


def memory_on_gpu(runner: Runner) -> int:
    """Bytes of the weights, of AdamW's two moments, and of what a step allocates at its largest."""
    runner.step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    runner.step()
    torch.cuda.synchronize()
    held = 3 * sum(weight.numel() * weight.element_size() for weight in runner.contestant.model.parameters())
    return held + torch.cuda.max_memory_allocated() - before


def memory_on_cpu(name: str, precision: str, settings: BenchmarkSettings) -> int:
    """The same, as the growth of this process at its largest, when it has made no step before."""

    def kilobytes(entry: str) -> int:
        return int(Path("/proc/self/status").read_text().split(f"{entry}:")[1].split()[0])

    before = kilobytes("VmRSS")
    runner = Runner(make_contestant(name, settings), precision=precision, compiled=False)
    runner.step()
    runner.step()
    return 1024 * (kilobytes("VmHWM") - before)


def memory_in_a_fork(name: str, precision: str, settings: BenchmarkSettings) -> int:
    """[`memory_on_cpu`] in a process of its own; this one must not have made a step yet. Linux only."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(memory_on_cpu, (name, precision, settings))


def top_operators(runner: Runner, count: int = 12) -> dict[str, float]:
    """Operators (on a GPU kernels) with the largest share of the time of a step, in percent."""
    on_gpu = runner.contestant.inputs["pixel_values"].is_cuda
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]) as profiler:
        runner.step()
        if on_gpu:
            torch.cuda.synchronize()
    taken: dict[str, float] = defaultdict(float)
    for event in profiler.key_averages():
        if event.device_type.name == ("CUDA" if on_gpu else "CPU") and not (on_gpu and event.is_user_annotation):
            taken[event.key[:60]] += event.self_device_time_total if on_gpu else event.self_cpu_time_total
    largest = sorted(taken, key=taken.__getitem__, reverse=True)[:count]
    return {name: 100 * taken[name] / sum(taken.values()) for name in largest}


def take_turns(runners: list[Runner], settings: BenchmarkSettings) -> tuple[list[list[float]], dict[str, float]]:
    """Seconds of a step of each runner, one number a round, and the median peak of each precision, measured between."""
    factors = {precision: matrix_products(precision, settings) for precision in settings.precisions}
    times: list[list[float]] = [[] for _ in runners]
    peaks: dict[str, list[float]] = {precision: [] for precision in settings.precisions}
    for _ in range(settings.rounds):
        for taken, runner in zip(times, runners, strict=True):
            taken.append(seconds(runner.step, settings.device, settings.steps))
        for precision, some in factors.items():
            peaks[precision].append(peak_rate(some, settings.device))
    return times, {precision: statistics.median(rates) for precision, rates in peaks.items()}


def run(settings: BenchmarkSettings) -> dict[str, Any]:
    """All measurements, as JSON takes them."""
    torch.set_num_threads(1)
    names, kinds, on_gpu = settings.contestants, settings.precisions, settings.device != "cpu"
    forks = {}
    if not on_gpu and Path("/proc/self/status").exists():
        forks = {(name, kind): memory_in_a_fork(name, kind, settings) for name in names for kind in kinds}
    contestants = [make_contestant(name, settings) for name in names]
    flops = {contestant.name: count_flops(contestant) for contestant in contestants}
    modes = (False, True) if settings.compiled else (False,)
    runners = [
        Runner(contestant, precision=precision, compiled=compiled)
        for contestant in contestants
        for precision in kinds
        for compiled in modes
    ]
    steps: list[dict[str, Any]] = []
    for runner in runners:
        runner.step()
        memory = memory_on_gpu(runner) if on_gpu else forks.get((runner.contestant.name, runner.precision), 0)
        gigabytes = None if runner.compiled and not on_gpu else memory / 1e9
        steps.append(runner.kind | {"batch_size": runner.contestant.clips, "gigabytes": gigabytes})
    times, peaks = take_turns(runners, settings)
    for step, taken in zip(steps, times, strict=True):
        step |= {"gflop": flops[step["model"]] / 1e9, "seconds": [second / step["batch_size"] for second in taken]}
    return {
        "machine": machine(settings),
        "settings": {name: value for name, value in asdict(settings).items() if name != "output"},
        "peak_tflops": {precision: rate / 1e12 for precision, rate in peaks.items()},
        "steps": steps,
        "operators": [
            runner.kind | {"shares": top_operators(runner)}
            for runner in runners
            if runner.contestant.name in ("CMMixer", REFERENCE)
        ],
    }


def machine(settings: BenchmarkSettings) -> dict[str, str]:
    """What the numbers were measured on."""
    on_gpu = settings.device != "cpu"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else f"one thread, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def tables(results: dict[str, Any]) -> str:
    """Three tables in Markdown: pre-training, fine-tuning, and where the time goes."""
    peaks = ", ".join(f"{precision} {rate:.2f}" for precision, rate in results["peak_tflops"].items())
    facts = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    parts = [f"{facts}; peak of matrix products in TFLOP/s: {peaks}."]
    columns = ("GFLOP a clip", "seconds a clip", "share of peak", "peak memory")
    for names, last in ((PRETRAINING, f"time a FLOP, {REFERENCE} = 1"), (FINETUNING, "time, all tokens = 1")):
        lines = [_line(step, results) for step in results["steps"] if step["model"] in names]
        if lines:
            parts.append("\n".join([f"| step | batch | {' | '.join((*columns, last))} |", "|---" * 7 + "|", *lines]))
    parts.append("\n".join(_operator_lines(results["operators"])))
    return "\n\n".join(parts)


def _line(step: dict[str, Any], results: dict[str, Any]) -> str:
    """One row: a pre-training step beside the reference's per FLOP, a fine-tuning step beside the one on all tokens.

    The two are compared within each round, which takes away what the machine did meanwhile.
    """
    median = statistics.median(step["seconds"])
    spread = (max(step["seconds"]) - min(step["seconds"])) / 2 / median
    share = step["gflop"] / median / 1000 / results["peak_tflops"][step["precision"]]
    memory = "–" if step["gigabytes"] is None else f"{step['gigabytes']:.2f} GB"
    pretraining = step["model"] in PRETRAINING
    kind = {**step, "model": REFERENCE if pretraining else FINETUNING[0]}
    ratio = "–"
    for other in results["steps"]:
        if all(other[name] == kind[name] for name in ("model", "precision", "mode")):
            work = other["gflop"] / step["gflop"] if pretraining else 1
            rounds = [ours / theirs * work for ours, theirs in zip(step["seconds"], other["seconds"], strict=True)]
            ratio = f"{statistics.median(rounds):.2f}"
    cells = (
        f"{step['model']}, {step['precision']}, {step['mode']}",
        str(step["batch_size"]),
        f"{step['gflop']:.1f}",
        f"{median:.3g} ± {100 * spread:.0f} %",
        f"{100 * share:.0f} %",
        memory,
        ratio,
    )
    return f"| {' | '.join(cells)} |"


def _operator_lines(profiles: list[dict[str, Any]]) -> list[str]:
    """Operators with at least 1 % of the time of some profiled step, the largest first."""
    shares = [one["shares"] for one in profiles]
    names = {name for one in shares for name, share in one.items() if share >= 1}
    largest = sorted(names, key=lambda name: -max(one.get(name, 0) for one in shares))
    heads = [f"{one['model']}, {one['precision']}, {one['mode']}" for one in profiles]
    lines = ["| operator, % of the time itself | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in largest:
        cells = [f"{one[name]:.1f}" if name in one else "" for one in shares]
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Measure, print, and keep."""
    settings = HfArgumentParser(BenchmarkSettings).parse_args_into_dataclasses()[0]
    results = run(settings)
    print(tables(results))
    if settings.output:
        Path(settings.output).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
