"""Results of an evaluation, as one JSON file that model cards are rendered from.

The file is an object with these keys; in a score, what does not apply is left out:

| key | holds |
|---|---|
| `schema` | 1; it rises when a key changes its meaning |
| `task` | `retrieval`, `video-classification` or `audio-classification` |
| `model` | `name` (folder or Hub name), `architecture`, `parameters` |
| `data` | `name` (folder of shards), `split` and `fold` or null, `clips`, `digest` of the clips' ids in their order |
| `protocol` | how it was measured: seed, resamples, confidence; pool size, pools and similarity; classes and views; folds |
| `scores` | a list, one entry a number: `metric`, `value`, `interval` [low, high] of `confidence`, `chance`; for retrieval `direction` (`video_to_audio`, `audio_to_video`) and `positives` (`strict`: the clip's own, `track`: any clip with the same track); over folds `spread` (standard deviation) and `folds`, the values |
| `versions` | of Python and of the packages that made the numbers |

Shares are in percent, ranks count from 1.
"""  # noqa: E501 - a table's row is one line

import json
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ..files import aligned, atomic_file

SCHEMA_VERSION = 1
_PACKAGES = ("cmmixer_hf", "torch", "transformers", "accelerate", "datasets", "numpy", "pyarrow", "av")
CHANCE = "chance"
NAMES = {
    "video_to_audio": "video → music",
    "audio_to_video": "music → video",
    "strict": "",
    "track": "any clip of the same track counts",
}
METRICS = {"R@1": "recall_at_1", "R@5": "recall_at_5", "R@10": "recall_at_10"}


@dataclass(frozen=True)
class Score:
    """One number, its uncertainty and the score of chance; the module's table explains the fields."""

    metric: str
    value: float
    interval: tuple[float, float] | None = None
    chance: float | None = None
    direction: str | None = None
    positives: str | None = None
    spread: float | None = None
    folds: tuple[float, ...] | None = None

    @property
    def of(self) -> str:
        """What was measured, in words: a direction, and which candidates count as right."""
        parts = (NAMES.get(part, part.replace("_", " ")) for part in (self.direction, self.positives) if part)
        return ", ".join(filter(None, parts))

    def __str__(self) -> str:
        if self.interval is not None:
            return f"{self.value:.1f} [{self.interval[0]:.1f}, {self.interval[1]:.1f}]"
        return f"{self.value:.1f}" + (f" ± {self.spread:.1f}" if self.spread is not None else "")

    def to_dict(self) -> dict[str, Any]:
        """The fields that apply.

        >>> Score("accuracy", 80.0, spread=5.0).to_dict()
        {'metric': 'accuracy', 'value': 80.0, 'spread': 5.0}
        """
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Score":
        """What [`to_dict`] gave, read from JSON."""
        tuples: dict[str, Any] = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        return cls(**(dict(fields) | tuples))


def read_scores(evaluation: Mapping[str, Any]) -> list[Score]:
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
        return [Score.from_dict(score) for score in evaluation["scores"]]
    guessed = dict(evaluation.get(CHANCE, {}))
    return list(_nested({name: inner for name, inner in evaluation.items() if name != CHANCE}, (), guessed))


def results_table(scores: Sequence[Score]) -> str:
    """A Markdown table: a line for each thing measured and one for guessing, a column for each metric."""
    metrics = list(dict.fromkeys(score.metric for score in scores))
    lines = [["", *(metric.replace("_", " ") for metric in metrics)], ["---"] * (1 + len(metrics))]
    for of in dict.fromkeys(score.of for score in scores):
        by_metric = {score.metric: score for score in scores if score.of == of}
        lines.append([of or "score", *(str(by_metric.get(metric, "")) for metric in metrics)])
        if any(score.chance is not None for score in by_metric.values()):
            chances = [by_metric[metric].chance if metric in by_metric else None for metric in metrics]
            lines.append(["by chance", *("" if chance is None else f"{chance:.1f}" for chance in chances)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def model_index(scores: Sequence[Score], *, task: str, dataset: str, split: str | None = None) -> list[EvalResult]:
    """The same for a card's metadata. Numbers as they are in the file, to four decimals."""
    return [
        EvalResult(
            task_type=task,
            dataset_type=_slug(dataset),
            dataset_name=dataset,
            dataset_split=split,
            metric_type=METRICS.get(score.metric, score.metric),
            metric_name=" ".join(filter(None, (score.metric.replace("_", " "), score.of))),
            metric_value=round(score.value, 4),
        )
        for score in scores
    ]


def _nested(scores: Mapping[str, Any], path: tuple[str, ...], chance: Mapping[str, float]) -> Iterator[Score]:
    for name, inner in scores.items():
        if isinstance(inner, (int, float)):
            yield Score(name, inner, chance=chance.get(name), **_what(path))
        elif isinstance(inner, Mapping) and "value" in inner:
            interval = (inner["low"], inner["high"]) if "low" in inner else None
            yield Score(name, inner["value"], interval, chance.get(name), **_what(path))
        elif isinstance(inner, Mapping):
            yield from _nested(inner, (*path, name), chance)
        else:
            raise ValueError(f"{'/'.join((*path, name))} must be a number or an object of numbers, got {inner!r}")


def _what(path: Sequence[str]) -> dict[str, Any]:
    """Names above a metric as a score's fields: the direction, and above that which candidates count."""
    return dict(zip(("direction", "positives"), reversed(path), strict=False))


def _slug(name: str) -> str:
    return re.sub(r"[^\w./-]+", "-", name).strip("-").lower()


@dataclass(frozen=True)
class EvaluationResult:
    """Scores, with what was evaluated and how."""

    task: str
    model: dict[str, Any]
    data: dict[str, Any]
    protocol: dict[str, Any]
    scores: list[Score]
    versions: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        content = {"schema": SCHEMA_VERSION} | asdict(self) | {"scores": [score.to_dict() for score in self.scores]}
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "EvaluationResult":
        """Read what [`save`] wrote.

        Raises:
            ValueError: the file is no such result, or one of another schema.
        """
        content = json.loads(Path(path).read_text())
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA_VERSION:
            raise ValueError(f"{path} is no evaluation of schema {SCHEMA_VERSION}: run `cmmixer evaluate` again")
        scores = [Score.from_dict(score) for score in content.pop("scores")]
        return cls(**content, scores=scores)


def package_versions() -> dict[str, str]:
    """Python's version and those of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def scores_table(scores: Sequence[Score]) -> str:
    """Scores as aligned text, one a line, each with its interval or its spread over folds, and chance.

    >>> print(scores_table([Score("top1_accuracy", 80.0, (71.0, 88.5), chance=10.0)]))
                   score                   chance
    top1_accuracy  80.00  [71.00 … 88.50]   10.00
    """
    rows = [["", "score", "", "chance"]]
    for score in scores:
        name = " ".join(part for part in (score.direction, score.positives, score.metric) if part)
        sure = f"± {score.spread:.2f}" if score.spread is not None else ""
        if score.interval:
            sure = "[{:.2f} … {:.2f}]".format(*score.interval)
        chance = "" if score.chance is None else f"{score.chance:.2f}"
        rows.append([name, f"{score.value:.2f}", sure, chance])
    return aligned(rows, "<>>>")
