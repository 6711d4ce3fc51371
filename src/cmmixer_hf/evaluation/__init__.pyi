from .classification import ClipPredictions, cross_validate, predict_clips, score_classification, split_folds
from .command import EvaluateSettings, evaluate, evaluate_folds
from .free_cues import FreeCues, score_free_cues
from .results import EvaluationResult, Score, package_versions, read_scores
from .retrieval import (
    DIRECTIONS,
    ClipEmbeddings,
    embed_clips,
    evaluate_retrieval,
    rank_clips,
    score_retrieval,
    score_twins,
)
from .separation import score_separation

__all__ = [
    "DIRECTIONS",
    "ClipEmbeddings",
    "ClipPredictions",
    "EvaluateSettings",
    "EvaluationResult",
    "FreeCues",
    "Score",
    "cross_validate",
    "embed_clips",
    "evaluate",
    "evaluate_folds",
    "evaluate_retrieval",
    "package_versions",
    "predict_clips",
    "rank_clips",
    "read_scores",
    "score_classification",
    "score_free_cues",
    "score_retrieval",
    "score_separation",
    "score_twins",
    "split_folds",
]
