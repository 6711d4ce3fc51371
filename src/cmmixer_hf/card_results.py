"""An evaluation's JSON → the table of a model card, and the results that the Hub reads from its metadata."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from huggingface_hub import EvalResult

CHANCE = "chance"
NAMES = {
    "video_to_audio": "video → music",
    "audio_to_video": "music → video",
    "strict": "",
    "track": "any clip of the same track counts",
}
METRICS = {"R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10"}


@dataclass(frozen=True)
class CardScore:
    """One number of a card: what it measures, of what (such as a direction), how sure it is, what guessing gives."""

    metric: str
    value: float
    of: str = ""
    interval: tuple[float, float] | None = None
    spread: float | None = None
    chance: float | None = None

    @property
    def metric_type(self) -> str:
        """The metric as the Hub calls it."""
        return METRICS.get(self.metric, self.metric)

    def __str__(self) -> str:
        if self.interval is not None:
            return f"{self.value:.1f} [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return f"{self.value:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")


def read_scores(evaluation: Mapping[str, Any]) -> list[CardScore]:
    """Scores of what `cmmixer evaluate` writes, or of plain numbers as [`evaluate_retrieval`] returns them.

    Args:
        evaluation: with a list `scores` of objects (`metric`, `value`, and where they apply `interval`, `spread`,
            `chance`, `direction`, `positives`); or nested names down to metrics, each a number or an object of
            `value`, `low` and `high`, with what guessing gives under `chance`.

    Raises:
        ValueError: there is something else in it.

    >>> [str(score) for score in read_scores({"video_to_audio": {"R@1": {"value": 50, "low": 40, "high": 61}}})]
    ['50.0 [40.0, 61.0]']
    """
    if isinstance(evaluation.get("scores"), list):
        return [_listed(score) for score in evaluation["scores"]]
    guessed = dict(evaluation.get(CHANCE, {}))
    return list(_nested({name: inner for name, inner in evaluation.items() if name != CHANCE}, (), guessed))


def results_table(scores: Sequence[CardScore]) -> str:
    """A Markdown table: a line for each thing measured and one for guessing, a column for each metric."""
    metrics = list(dict.fromkeys(score.metric for score in scores))
    lines = [["", *(metric.replace("_", " ") for metric in metrics)], ["---"] * (1 + len(metrics))]
    for of in dict.fromkeys(score.of for score in scores):
        found = {score.metric: score for score in scores if score.of == of}
        lines.append([of or "score", *(str(found.get(metric, "")) for metric in metrics)])
        if any(score.chance is not None for score in found.values()):
            chances = [found[metric].chance if metric in found else None for metric in metrics]
            lines.append(["by chance", *("" if chance is None else f"{chance:.1f}" for chance in chances)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def model_index(scores: Sequence[CardScore], *, task: str, dataset: str, split: str | None = None) -> list[EvalResult]:
    """The same for a card's metadata. Numbers as they are in the file, to four decimals."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=_slug(dataset),
            dataset_name=dataset,
            dataset_split=split,
            metric_type=score.metric_type,
            metric_name=" ".join(filter(None, (score.metric.replace("_", " "), score.of))),
            metric_value=round(score.value, 4),
        )
        for score in scores
    ]


def _listed(score: Mapping[str, Any]) -> CardScore:
    interval = score.get("interval")
    return CardScore(
        metric=score["metric"],
        value=score["value"],
        of=_name(score.get("direction"), score.get("positives")),
        interval=None if interval is None else (interval[0], interval[1]),
        spread=score.get("spread"),
        chance=score.get(CHANCE),
    )


def _nested(found: Mapping[str, Any], path: tuple[str, ...], chance: Mapping[str, float]) -> Iterator[CardScore]:
    for name, inner in found.items():
        if isinstance(inner, (int, float)):
            yield CardScore(name, inner, _name(*path), chance=chance.get(name))
        elif isinstance(inner, Mapping) and "value" in inner:
            interval = (inner["low"], inner["high"]) if "low" in inner else None
            yield CardScore(name, inner["value"], _name(*path), interval=interval, chance=chance.get(name))
        elif isinstance(inner, Mapping):
            yield from _nested(inner, (*path, name), chance)
        else:
            raise ValueError(f"{'/'.join((*path, name))} must be a number or an object of numbers, got {inner!r}")


def _name(*parts: str | None) -> str:
    return ", ".join(filter(None, (NAMES.get(part, part.replace("_", " ")) for part in parts if part)))


def _slug(name: str) -> str:
    return re.sub(r"[^\w./-]+", "-", name).strip("-").lower()
