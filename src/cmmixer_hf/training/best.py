"""Which weights of a run scored best on held-out clips, and early stopping."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .settings import TrainingSettings


class BestWeights:
    """Judges the evaluations of a run by `settings.best_metric`; the loop keeps the best weights in `folder`.

    Args:
        folder: `best/` of the run folder.
        settings: which score counts, and how many evaluations without a better one end the run.

    >>> best = BestWeights(Path("best"), TrainingSettings(best_metric="-median_rank", patience=2))
    >>> [best.judge({"median_rank": rank}, step) for step, rank in enumerate([9.0, 4.0, 5.0, 4.0])]
    [True, True, False, False]
    >>> best.step, best.score, best.exhausted
    (1, 4.0, True)
    """

    def __init__(self, folder: Path, settings: TrainingSettings):
        self.folder = folder
        self.metric = settings.best_metric.removeprefix("-")
        self.sign = -1 if settings.best_metric.startswith("-") else 1
        self.patience = settings.patience
        self.score: float | None = None
        self.step = 0
        self.waited = 0  # evaluations since then

    @property
    def exhausted(self) -> bool:
        """Whether the run should end."""
        return 0 < self.patience <= self.waited

    def judge(self, scores: Mapping[str, Any], step: int) -> bool:
        """Whether the weights of this step are better than all before; equal ones are not, nor those without a number.

        Raises:
            ValueError: the evaluation has no such score.
        """
        if not self.metric:
            return False
        if self.metric not in scores:
            raise ValueError(f"best_metric is {self.metric!r}, the evaluation has {', '.join(scores)}")
        score = float(scores[self.metric])
        better = not math.isnan(score) and (self.score is None or self.sign * score > self.sign * self.score)
        self.waited = 0 if better else self.waited + 1
        if better:
            self.score, self.step = score, step
        return better

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"score": self.score, "step": self.step, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a [`state_dict`]."""
        self.score, self.step, self.waited = state["score"], state["step"], state["waited"]
