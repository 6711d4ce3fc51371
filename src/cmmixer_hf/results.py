"""What an evaluation found, as one JSON file that model cards are rendered from.

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
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .atomic import atomic_file

SCHEMA = 1
PACKAGES = ("cmmixer_hf", "torch", "transformers", "accelerate", "datasets", "av")


@dataclass(frozen=True)
class Score:
    """One number, how sure it is and what guessing would give; the module's table says what the fields mean."""

    metric: str
    value: float
    interval: tuple[float, float] | None = None
    chance: float | None = None
    direction: str | None = None
    positives: str | None = None
    spread: float | None = None
    folds: tuple[float, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields that apply.

        >>> Score("accuracy", 80.0, spread=5.0).to_dict()
        {'metric': 'accuracy', 'value': 80.0, 'spread': 5.0}
        """
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class EvaluationResult:
    """Scores with everything needed to tell what they are of."""

    task: str
    model: dict[str, Any]
    data: dict[str, Any]
    protocol: dict[str, Any]
    scores: list[Score]
    versions: dict[str, str]

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        content = {"schema": SCHEMA} | asdict(self) | {"scores": [score.to_dict() for score in self.scores]}
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(content, indent=2) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "EvaluationResult":
        """Read what [`save`] wrote.

        Raises:
            ValueError: the file is no such result, or one of another schema.
        """
        content = json.loads(Path(path).read_text())
        if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
            raise ValueError(f"{path} is no evaluation of schema {SCHEMA}: make it again with `cmmixer evaluate`")
        scores = [Score(**{name: _as_tuple(value) for name, value in score.items()}) for score in content.pop("scores")]
        return cls(**content, scores=scores)


def package_versions() -> dict[str, str]:
    """Python's version and those of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


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
    name_width, *widths = (max(map(len, column)) for column in zip(*rows, strict=True))
    return "\n".join(
        "  ".join([f"{name:{name_width}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))])
        for name, *cells in rows
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
