"""Tables and a plot of the results of `benchmarks/compare.py`.

    python benchmarks/render.py benchmarks/results/compare

writes `table.md` and `score_against_compute.png` into that folder. Intervals are Student's, over seeds; differences are
paired by seed.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from arms import ARMS
from experiment import read_results
from scipy import stats
from twins import TWINS

Result = dict[str, Any]
# What the paper claims, and what it never compared: (name, better arm, other arm).
CLAIMS = (
    ("mixed pre-training helps, fine-tuning being equal", "solo-cutmix", "scratch"),
    ("mixed pre-training helps, all compute being equal", "solo-cutmix", "contrastive"),
    ("unmixed pre-training helps, fine-tuning being equal", "unmixed", "scratch"),
    ("unmixed pre-training helps, all compute being equal", "unmixed", "contrastive"),
    ("dropping tokens in fine-tuning helps", "contrastive-drop", "contrastive"),
    ("mixed pre-training helps beside it", "solo-cutmix-drop", "contrastive-drop"),
    ("mixing helps masked pre-training", "solo-cutmix", "unmixed"),
    ("CutMix > Pixel Mixup", "solo-cutmix", "solo-pixel"),
    ("Pixel Mixup > Mixup", "solo-pixel", "solo-mixup"),
    ("Solo > Duet", "solo-cutmix", "duet-cutmix"),
    ("CMMixer > CAV-MAE", "solo-cutmix", "cav-mae"),
    ("CMMixer > MVPt on its own frozen features", "solo-cutmix", "mvpt"),
)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval; the width is NaN for one value.

    >>> mean, half = interval([1.0, 2.0, 3.0])
    >>> round(mean, 2), round(half, 2)
    (2.0, 2.48)
    """
    sample = np.asarray(values, float)
    if len(sample) < 2:
        return float(sample.mean()), float("nan")
    half = stats.t.ppf(0.975, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample))
    return float(sample.mean()), float(half)


def show(values: Sequence[float]) -> str:
    """`mean ± half width`, or the one value there is."""
    mean, half = interval(values)
    return f"{mean:.1f}" if np.isnan(half) else f"{mean:.1f} ± {half:.1f}"


def both_ways(result: Result, metric: str) -> float:
    """The mean of both directions."""
    return (result["scores"]["video_to_audio"][metric] + result["scores"]["audio_to_video"][metric]) / 2


def arm_table(results: list[Result]) -> str:
    """One row an arm: scores of both directions together, and what was understood."""
    pool, chance = results[0]["pool"], results[0]["scores"]["chance"]
    lines = [
        f"| arm | TFLOP pre-training + fine-tuning | R@1 | R@10 of {pool} | median rank | {' | '.join(TWINS)} |",
        "|" + "---|" * (5 + len(TWINS)),
    ]
    for arm in ARMS:
        own = [result for result in results if result["arm"] == arm]
        if own:
            spent = " + ".join(
                f"{np.mean([r['tflop'][part] for r in own]):.2f}" for part in ("pretraining", "finetuning")
            )
            scores = [show([both_ways(result, metric) for result in own]) for metric in ("R@1", "R@10", "median_rank")]
            twins = [show([r["twins"][kind] for r in own]) if kind in own[0]["twins"] else "–" for kind in TWINS]
            lines.append(f"| {ARMS[arm].about} | {spent} | {' | '.join(scores + twins)} |")
    chances = [f"{chance[metric]:.1f}" for metric in ("R@1", "R@10", "median_rank")]
    lines.append(f"| chance | | {' | '.join(chances + ['50.0'] * len(TWINS))} |")
    return "\n".join(lines)


def claim_table(results: list[Result]) -> str:
    """Each claim as a paired difference of R@10, and whether its interval leaves zero."""
    lines = ["| claim | difference in R@10, paired by seed | it holds |", "|---|---|---|"]
    for claim, better, other in CLAIMS:
        pairs = differences(results, better, other)
        if pairs:
            lines.append(f"| {claim} | {show(pairs)} | {verdict(pairs)} |")
    return "\n".join(lines)


def grid_table(results: list[Result]) -> str:
    """R@10 of the arms that ran at several budgets or numbers of pairs, and what they differ by: one column a size."""
    sizes = sorted({(result["pairs"], result["budget"]) for result in results})
    cells = {size: [r for r in results if (r["pairs"], r["budget"]) == size] for size in sizes}
    several = [arm for arm in ARMS if sum(any(r["arm"] == arm for r in own) for own in cells.values()) > 1]
    heads = [f"{pairs} pairs, {budget:g} TFLOP" for pairs, budget in sizes]
    lines = [f"| R@10 of {results[0]['pool']} | {' | '.join(heads)} |", "|" + "---|" * (1 + len(sizes))]
    for arm in several:
        scores = [[both_ways(r, "R@10") for r in own if r["arm"] == arm] for own in cells.values()]
        lines.append(f"| {ARMS[arm].about} | {' | '.join(show(own) if own else '–' for own in scores)} |")
    for claim, better, other in CLAIMS:
        if {better, other} <= set(several):
            gains = [differences(own, better, other) for own in cells.values()]
            told = [f"{show(gain)}: {verdict(gain)}" if gain else "–" for gain in gains]
            lines.append(f"| *{claim}* | {' | '.join(told)} |")
    return "\n".join(lines)


def differences(results: list[Result], better: str, other: str) -> list[float]:
    """R@10 of one arm minus the other's, for every seed that both have."""
    return paired(by_seed(results, better), by_seed(results, other))


def by_seed(results: list[Result], arm: str) -> dict[int, float]:
    """R@10 of an arm."""
    return {result["seed"]: both_ways(result, "R@10") for result in results if result["arm"] == arm}


def paired(better: Mapping[int, float], other: Mapping[int, float]) -> list[float]:
    """Differences of scores by seed, for every seed that both have.

    >>> paired({0: 3.0, 1: 5.0, 2: 7.0}, {2: 6.0, 1: 1.0})
    [4.0, 1.0]
    """
    return [better[seed] - other[seed] for seed in sorted(better.keys() & other.keys())]


def verdict(values: Sequence[float]) -> str:
    """In words.

    >>> verdict([3.0, 4.0, 3.5]), verdict([-1.0, 1.0, 0.5]), verdict([-3.0, -4.0, -3.5]), verdict([5.0])
    ('yes', 'not shown', 'no, the reverse', 'one seed')
    """
    mean, half = interval(values)
    if np.isnan(half):
        return "one seed"
    if abs(mean) <= half:
        return "not shown"
    return "yes" if mean > 0 else "no, the reverse"


def plot(results: list[Result], path: Path) -> None:
    """R@10 against the budget, one line an arm that has several."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pairs = sorted({result["pairs"] for result in results})
    figure, axes = plt.subplots(1, len(pairs), figsize=(4.6 * len(pairs), 4), squeeze=False, sharey=True)
    for axis, count in zip(axes[0], pairs, strict=True):
        for place, arm in enumerate(ARMS):
            own = [result for result in results if result["arm"] == arm and result["pairs"] == count]
            budgets = sorted({result["budget"] for result in own})
            if len(budgets) > 1:
                scores = [interval([both_ways(r, "R@10") for r in own if r["budget"] == budget]) for budget in budgets]
                means, halves = zip(*scores, strict=True)
                look = {"marker": "osD^v<>P*X"[place % 10], "color": plt.cm.tab20(place % 20), "capsize": 3}
                axis.errorbar(budgets, means, halves, label=ARMS[arm].about, **look)
        ticks = sorted({result["budget"] for result in results})
        axis.set(title=f"{count} pairs", xlabel="TFLOP, pre-training and fine-tuning", xscale="log")
        axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"R@10 of {results[0]['pool']}, mean of both directions")
    figure.legend(*axes[0, -1].get_legend_handles_labels(), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0))
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main(folder: Path) -> None:
    """Write the table and the plot of one folder of results."""
    results = [result for result in read_results(folder) if result["arm"] in ARMS]
    parts = ["<!-- made by `python benchmarks/render.py` -->"]
    if len({(result["pairs"], result["budget"]) for result in results}) > 1:
        parts.append(grid_table(results))
    key = ("pairs", "budget")
    for pairs, budget in sorted({tuple(result[name] for name in key) for result in results}):
        own = [result for result in results if (result["pairs"], result["budget"]) == (pairs, budget)]
        seeds = len({result["seed"] for result in own})
        parts.append(f"### {budget:g} TFLOP, {pairs} pairs, {seeds} seeds\n\n{arm_table(own)}\n\n{claim_table(own)}")
    (folder / "table.md").write_text("\n\n".join(parts) + "\n")
    plot(results, folder / "score_against_compute.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "benchmarks/results/compare"))
