"""The paper's claim, decided: does mixing add anything to masked pre-training, and that to contrastive training?

    python benchmarks/claims.py                                 # runs the cells that have no result yet, or goes on
    python benchmarks/claims.py --shard 0/2 & python benchmarks/claims.py --shard 1/2      # one process a core
    python benchmarks/claims.py --table benchmarks/results/claims                          # prints what is there

The regime is the one in which pre-training can pay: few pairs to fine-tune on, more clips to pre-train on, a world in
which no cue is free. Each arm takes its own learning rate from an equal search on clips of another seed; the seeds of
the grid were fixed before it ran. Twins are the first outcome, R@10 is the second, and Holm's method corrects over all
claims of the table. A grid does not start on clips that a free cue solves.
"""

import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_from_disk
from scipy import stats
from small_runs import HELD_OUT, make_clips, train_briefly
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel, set_seed

from cmmixer_hf import CMMixerForPreTraining, CMMixerForRetrieval
from cmmixer_hf.data import StackMaker, collate_clips
from cmmixer_hf.demo import TWINS, World, make_extractor, model_config, score_understanding
from cmmixer_hf.evaluation import embed_clips, evaluate_retrieval, score_free_cues
from cmmixer_hf.training import read_settings

VALIDATION = 500_000  # added to a seed: clips to choose a learning rate on
CONTENT = ("identity", "height", "binding")  # twins of the first outcome
Result = dict[str, Any]


class Unmixed(CMMixerForPreTraining):
    """Masked pre-training on both modalities in turn, nothing mixed: each is reconstructed from itself alone."""

    def forward(self, pixel_values: torch.Tensor, audio_values: torch.Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForPreTraining`]; the loss is the sum of both reconstructions."""
        video = torch.ones_like(pixel_values[:, :, :1])
        stacks = pixel_values, audio_values
        seen, heard = (super(Unmixed, self).forward(*stacks, mixing_mask=m, **kwargs) for m in (video, 1 - video))
        seen.audio_loss, seen.loss = heard.audio_loss, seen.video_loss + heard.audio_loss
        return seen


class Strangers(CMMixerForPreTraining):
    """Each clip's picture is mixed with the sound of another clip: no pair is used."""

    def forward(self, pixel_values: torch.Tensor, audio_values: torch.Tensor, **kwargs: Any) -> Any:
        """As [`CMMixerForPreTraining`]."""
        return super().forward(pixel_values, audio_values.roll(1, 0), **kwargs)


# What they save is read by the class that they derive from, which the card of a run folder names.
Unmixed.__name__ = Strangers.__name__ = CMMixerForPreTraining.__name__


@dataclass(frozen=True)
class Arm:
    """One way to a retriever; what pre-training costs is spent there, in fine-tuning, or not at all."""

    about: str
    pretrain: Callable[[], CMMixerForPreTraining] | None = None
    spends_all: bool = True


ARMS = {
    "none": Arm("no pre-training, fine-tuning as long as the others'", spends_all=False),
    "contrastive": Arm("no pre-training, all compute in fine-tuning"),
    "unmixed": Arm("masked pre-training, nothing mixed", lambda: Unmixed(model_config())),
    "cutmix": Arm("CutMix with the clip's own sound", lambda: CMMixerForPreTraining(model_config())),
    "cutmix-strangers": Arm("CutMix with another clip's sound", lambda: Strangers(model_config())),
    "pixel": Arm("Pixel Mixup with the clip's own sound", lambda: CMMixerForPreTraining(model_config(mixer="pixel"))),
}
CLAIMS = (
    ("masked pre-training helps, fine-tuning being equal", "unmixed", "none"),
    ("mixed pre-training helps, fine-tuning being equal", "cutmix", "none"),
    ("masked pre-training helps, all compute being equal", "unmixed", "contrastive"),
    ("mixed pre-training helps, all compute being equal", "cutmix", "contrastive"),
    ("mixing adds to masked pre-training", "cutmix", "unmixed"),
    ("mixing with a stranger's sound adds to it", "cutmix-strangers", "unmixed"),
    ("CutMix > Pixel Mixup", "cutmix", "pixel"),
)


@dataclass
class ClaimsSettings:
    """Which cells to run, and how large."""

    output: str = field(default="runs/claims", metadata={"help": "folder of the results, a file a cell"})
    table: str | None = field(default=None, metadata={"help": "print the table of this folder's results instead"})
    arms: list[str] = field(default_factory=lambda: list(ARMS), metadata={"help": f"of {', '.join(ARMS)}"})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "of worlds and weights"})
    rates: list[float] = field(
        default_factory=lambda: [5e-4, 1e-3, 2e-3], metadata={"help": "learning rates tried; one alone is taken"}
    )
    pairs: int = field(default=500, metadata={"help": "clips to fine-tune on"})
    clips: int = field(default=2000, metadata={"help": "clips to pre-train on, the pairs among them"})
    pool: int = field(default=300, metadata={"help": "held-out clips"})
    pretraining_steps: int = field(default=2400, metadata={"help": "of mixed pre-training; the others' FLOP are equal"})
    finetuning_steps: int = field(default=600, metadata={"help": "after pre-training"})
    batch_size: int = field(default=32, metadata={"help": "clips a step"})
    token_drop_rate: float = field(default=0.5, metadata={"help": "share of the tokens left out in fine-tuning"})
    shard: str = field(default="0/1", metadata={"help": "i/n: run every n-th cell from the i-th on"})


SIZES = ("pairs", "clips", "pool", "pretraining_steps", "finetuning_steps", "batch_size", "token_drop_rate")


@dataclass(frozen=True)
class Cell:
    """One training: an arm, a seed and a learning rate; of the search, or of the grid with the rate that it chose."""

    arm: str
    seed: int
    rate: float
    searched: bool

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{'search' if self.searched else 'grid'}-{self.arm}-{self.rate:g}-seed{self.seed}"


def run(settings: ClaimsSettings) -> None:
    """The search, then the grid, seed by seed; a process runs its share and takes what others have found."""
    part, parts = map(int, settings.shard.split("/"))
    searched = [Cell(arm, settings.seeds[0], rate, True) for arm in settings.arms for rate in settings.rates]
    for cell in searched[part::parts] if len(settings.rates) > 1 else []:
        load_or_run(cell, settings)
    for seed in settings.seeds:
        for arm in settings.arms[part::parts]:
            own = [cell for cell in searched if cell.arm == arm]
            best = max(own, key=lambda cell: content(load_or_run(cell, settings))) if len(own) > 1 else own[0]
            load_or_run(Cell(arm, seed, best.rate, False), settings)


def load_or_run(cell: Cell, settings: ClaimsSettings) -> Result:
    """The result of a cell; raises ValueError where the one that is there is of other sizes."""
    path = Path(settings.output) / f"{cell.name}.json"
    sizes = {name: getattr(settings, name) for name in SIZES}
    if not path.exists():
        result = run_cell(cell, settings) | {"sizes": sizes}
        path.with_suffix(".partial").write_text(json.dumps(result, indent=1))
        path.with_suffix(".partial").rename(path)
        print(f"{cell.name}: R@10 {result['R@10']:.1f}, content {content(result):.1f}", flush=True)
    result = json.loads(path.read_text())
    if result["sizes"] != sizes:
        raise ValueError(f"{path} was made with {result['sizes']}, not {sizes}: choose another output")
    return result


def run_cell(cell: Cell, settings: ClaimsSettings) -> Result:
    """Pre-train, fine-tune and score one arm."""
    started, arm = time.process_time(), ARMS[cell.arm]
    world = World(cell.seed + (VALIDATION if cell.searched else 0))
    clips = keep_clips(world, settings.clips, settings)
    pairs, extractor = clips.select(range(settings.pairs)), make_extractor()
    mixed = settings.pretraining_steps * step_flops(CMMixerForPreTraining(model_config()), clips)
    set_seed(cell.seed)
    towers = CMMixerForRetrieval(model_config(token_drop_rate=settings.token_drop_rate))
    budget = settings.finetuning_steps * (cost := step_flops(towers, pairs))
    if arm.pretrain is not None:
        pretrained = arm.pretrain()
        spend(mixed, pretrained, clips, cell, settings)
        for tower in (towers.video_model, towers.audio_model):
            tower.load_state_dict(pretrained.cmmixer.state_dict())
    elif arm.spends_all:
        budget += mixed
    spend(budget, towers, pairs, cell, settings)
    pool = World(world.seed + HELD_OUT)
    held_out = keep_clips(pool, settings.pool, settings)
    cues = score_free_cues(pairs, held_out, extractor)
    cues.check()
    scores = evaluate_retrieval(embed_clips(towers, held_out, extractor, progress=False))
    twins = score_understanding(towers, pool, range(settings.pool), extractor)
    return asdict(cell) | {
        "about": arm.about,
        "R@10": (scores["video_to_audio"]["R@10"] + scores["audio_to_video"]["R@10"]) / 2,
        "scores": scores,
        "twins": {kind: score.value for kind, score in twins.items()},
        "cues": cues.rows,
        "tflop": settings.batch_size * 1e-12 * (budget + (mixed if arm.pretrain is not None else 0)),
        "finetuning_steps": round(budget / cost),
        "cpu_seconds": round(time.process_time() - started),
        "commit": commit(),
    }


def content(result: Result) -> float:
    """The first outcome: the mean of the twins that differ in content."""
    return float(np.mean([result["twins"][kind] for kind in CONTENT]))


def keep_clips(world: World, count: int, settings: ClaimsSettings) -> Dataset:
    """A world's first clips, which the cells of a seed share."""
    folder = Path(settings.output) / "work" / f"world-{world.seed}-{count}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            make_clips(world, count).save_to_disk(f"{partial}/clips")
            if not folder.exists():  # another process may have been faster
                Path(f"{partial}/clips").rename(folder)
    return load_from_disk(str(folder))


def step_flops(model: PreTrainedModel, clips: Dataset) -> float:
    """FLOP of one clip's forward and backward pass, counted; the counter does not know the fused attention of CPUs."""
    stacks = StackMaker(make_extractor())(collate_clips([clips[0], clips[1]]))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model.train()(**stacks).loss.backward()
    model.zero_grad()
    return counter.get_total_flops() / 2


def spend(budget: float, model: PreTrainedModel, clips: Dataset, cell: Cell, settings: ClaimsSettings) -> None:
    """Train for as many steps as a budget of FLOP a clip of a batch allows."""
    steps = max(1, round(budget / step_flops(model, clips)))
    train_briefly(
        model,
        clips,
        steps,
        seed=cell.seed,
        batch_size=settings.batch_size,
        learning_rate=cell.rate,
        min_learning_rate=cell.rate / 20,
        logging_steps=50,
        divergence_factor=0,
    )


def commit() -> str:
    """Which state of the code made a result."""
    describe = ["git", "describe", "--always", "--dirty"]
    found = subprocess.run(describe, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


# --- tables ----------------------------------------------------------------------------------------------------------


def tables(folder: Path) -> str:
    """The search, and arms, claims and free cues of the grid, of the results that are there, as Markdown."""
    searched, results = (
        [json.loads(path.read_text()) for path in sorted(folder.glob(f"{kind}-*.json"))] for kind in ("search", "grid")
    )
    parts = [search_rows(searched)] if searched else []
    return "\n\n".join("\n".join(rows) for rows in [*parts, arm_rows(results), claim_rows(results), cue_rows(results)])


def search_rows(results: list[Result]) -> Iterator[str]:
    """The mean of the content twins and R@10 for every learning rate that was tried, on clips of another seed."""
    rates = sorted({result["rate"] for result in results})
    found = {(result["arm"], result["rate"]): f"{content(result):.1f}, {result['R@10']:.1f}" for result in results}
    yield f"| content twins, R@10 by learning rate | {' | '.join(f'{rate:g}' for rate in rates)} |"
    yield "|" + "---|" * (1 + len(rates))
    for name, arm in ARMS.items():
        if any(arm_rate in found for arm_rate in ((name, rate) for rate in rates)):
            yield f"| {arm.about} | {' | '.join(found.get((name, rate), '–') for rate in rates)} |"


def arm_rows(results: list[Result]) -> Iterator[str]:
    """Mean and 95 % interval of each arm, over seeds."""
    yield f"| arm | seeds | learning rate | TFLOP | R@10 | {' | '.join(TWINS)} |"
    yield "|" + "---|" * (5 + len(TWINS))
    for name, arm in ARMS.items():
        own = [result for result in results if result["arm"] == name]
        if own:
            columns = [[r["R@10"] for r in own], *([r["twins"][kind] for r in own] for kind in TWINS)]
            facts = f"{len(own)} | {own[0]['rate']:g} | {own[0]['tflop']:.1f}"
            yield f"| {arm.about} | {facts} | {' | '.join(map(show, columns))} |"


def claim_rows(results: list[Result]) -> Iterator[str]:
    """Differences paired by seed, and what Holm's method leaves of them, for both outcomes together."""
    outcomes: dict[str, Callable[[Result], float]] = {"content twins": content, "R@10": lambda result: result["R@10"]}
    gains = {
        (claim, name): differences(results, better, other, measure)
        for name, measure in outcomes.items()
        for claim, better, other in CLAIMS
    }
    # What has too few seeds counts, too, so that no verdict hangs on which cells are there already.
    tested = {key: stats.ttest_1samp(values, 0).pvalue if len(values) > 1 else 1.0 for key, values in gains.items()}
    tested = {key: 1.0 if np.isnan(pvalue) else pvalue for key, pvalue in tested.items()}  # no difference at all
    kept = holm(tested)
    yield f"| claim, paired by seed | {' | '.join(outcomes)} |"
    yield "|---|---|---|"
    there = {result["arm"] for result in results}
    for claim, *arms in CLAIMS:
        if not there.issuperset(arms):
            continue
        cells = [
            f"{show(gains[claim, name])}: {verdict(gains[claim, name], (claim, name) in kept)}" for name in outcomes
        ]
        yield f"| {claim} | {' | '.join(cells)} |"


def cue_rows(results: list[Result]) -> Iterator[str]:
    """What needs no model: R@10, the mean of both directions, a pool a seed."""
    yield "| without a model | R@10, a pool a seed |"
    yield "|---|---|"
    pools = {result["seed"]: result["cues"] for result in results}
    for place, about in enumerate(("the best cue", "all cues, CCA of the pairs", "thumbnails, CCA of the pairs")):
        ways = [list(cues.values())[place].values() for _, cues in sorted(pools.items())]
        means = [float(np.mean([way["R@10"] for way in both])) for both in ways]
        yield f"| {about} | {', '.join(f'{value:.1f}' for value in means)} |"


def differences(results: list[Result], better: str, other: str, measure: Callable[[Result], float]) -> list[float]:
    """One arm's outcome minus another's, for each seed that both have."""
    found = {(result["arm"], result["seed"]): measure(result) for result in results}
    seeds = sorted({seed for arm, seed in found if arm == better} & {seed for arm, seed in found if arm == other})
    return [found[better, seed] - found[other, seed] for seed in seeds]


def holm(pvalues: dict[Any, float], level: float = 0.05) -> set[Any]:
    """The hypotheses that Holm's step-down method rejects.

    >>> sorted(holm({"a": 0.01, "b": 0.04, "c": 0.03}))
    ['a']
    """
    rejected: set[Any] = set()
    for name, pvalue in sorted(pvalues.items(), key=lambda item: item[1]):
        if not pvalue <= level / (len(pvalues) - len(rejected)):
            break
        rejected.add(name)
    return rejected


def show(values: list[float]) -> str:
    """Mean and half of Student's 95 % interval.

    >>> show([1.0, 2.0, 3.0]), show([1.0]), show([])
    ('2.0 ± 2.5', '1.0', '–')
    """
    if len(values) < 2:
        return f"{values[0]:.1f}" if values else "–"
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return f"{np.mean(values):.1f} ± {half:.1f}"


def verdict(values: list[float], kept: bool) -> str:
    """In words."""
    if len(values) < 2:
        return "too few seeds"
    return ("yes" if np.mean(values) > 0 else "no, the reverse") if kept else "not shown"


def main() -> None:
    """Run, or print."""
    settings = read_settings(ClaimsSettings)
    if settings.table is None:
        run(settings)
    print(tables(Path(settings.table or settings.output)))


if __name__ == "__main__":
    main()
