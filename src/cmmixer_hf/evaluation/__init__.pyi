from .classification import ClipPredictions, cross_validate, predict_clips, score_classification, split_folds
from .command import EvaluateSettings, evaluate, evaluate_folds
from .results import EvaluationResult, Score
from .retrieval import DIRECTIONS, ClipEmbeddings, embed_clips, evaluate_retrieval, rank_clips, score_twins

__all__ = [
    "DIRECTIONS",
    "ClipEmbeddings",
    "ClipPredictions",
    "EvaluateSettings",
    "EvaluationResult",
    "Score",
    "cross_validate",
    "embed_clips",
    "evaluate",
    "evaluate_folds",
    "evaluate_retrieval",
    "predict_clips",
    "rank_clips",
    "score_classification",
    "score_twins",
    "split_folds",
]
