"""The floor of sound classification: logistic regression on the mean and deviation of each log-mel band, five folds.

python benchmarks/esc10_floor.py prepared/esc10 benchmarks/results/peers

The second folder is that of the models' results (`peers.py`), whose table then has the floor, too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data import PreparedClips, load_prepared, unpack_waveforms
from cmmixer_hf.evaluation import Score, cross_validate
from cmmixer_hf.files import atomic_file


def band_statistics(clips: PreparedClips, extractor: CMMixerFeatureExtractor) -> np.ndarray:
    """(clips, 2 · 128): mean and standard deviation over time of every log-mel band."""
    mels = [extractor.log_mel(unpack_waveforms(row).float().flatten() / 32768) for row in clips]
    return torch.stack([torch.cat([mel.mean(-1), mel.std(-1)]) for mel in mels]).numpy()


def linear_accuracy(features: np.ndarray, labels: np.ndarray, others: list[int], held_out: list[int]) -> float:
    """Percent of the held-out clips that logistic regression on the others gets right."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    model.fit(features[others], labels[others])
    return 100 * model.score(features[held_out], labels[held_out])


def main(folder: str, results: str | None = None) -> None:
    """Print accuracy over the folds, and keep it in a folder of results."""
    clips = load_prepared(folder)
    features = band_statistics(clips, CMMixerFeatureExtractor())
    labels = np.array([names[0] for names in clips["labels"]])

    def train_fold(fold: int, others: list[int], held_out: list[int]) -> list[Score]:
        return [Score("top1_accuracy", linear_accuracy(features, labels, others, held_out))]

    (score,) = cross_validate(clips["fold"], train_fold)
    folds = ", ".join(f"{value:.1f}" for value in score.folds or ())
    print(f"{score.value:.1f} %, standard deviation over folds {score.spread:.1f} ({folds})")
    if results:
        floor = {"arm": "mel statistics=logistic regression", "clips": folder, "scores": [score.to_dict()]}
        with atomic_file(Path(results) / "floor.json") as partial:
            partial.write_text(json.dumps(floor, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:] or ["prepared/esc10"])
