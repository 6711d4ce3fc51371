"""A saved model and prepared clips → scores in a JSON file (`cmmixer evaluate`), in one process or in many.

cmmixer evaluate SHARDS --model MODEL
torchrun --nproc_per_node 8 -m cmmixer_hf.cli evaluate SHARDS --model MODEL
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from ..data.prepared_clips import PreparedClips, load_prepared
from ..loading import CLASSIFICATION, RETRIEVAL, load_model, load_processor, read_saved
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..search.embedders.embedder import is_ours, open_embedder
from ..settings import EvaluateSettings
from .classification import Classifier, cross_validate, predict_clips, score_classification
from .embedded_clips import embed_specs, find_evaluated
from .intervals import CONFIDENCE
from .results import EvaluationResult, Score, package_versions, scores_table
from .retrieval import ClipEmbeddings, embed_clips, score_retrieval

# A classifier's task by the end of its name.
TASKS = {
    "ForVideoClassification": "video-classification",
    "ForAudioClassification": "audio-classification",
    "ForAudioVisualClassification": "audio-classification",
}


def evaluate(settings: EvaluateSettings) -> EvaluationResult:
    """Score a model, print the table and write the file; under torchrun every process works on its share.

    Raises:
        SourceError: the model or the shards cannot be used; the message says why.
    """
    result = (_evaluate_ours if is_ours(settings.model) else _evaluate_foreign)(settings)
    _report(result, settings.output)
    return result


def evaluate_folds(
    clips: PreparedClips, evaluate_fold: Callable[[int, list[int]], EvaluationResult], output: str | Path
) -> EvaluationResult:
    """Cross-validate a classifier ([`cross_validate`]), print each fold's first score and write means and spreads.

    Args:
        clips: all prepared clips, each with a fold.
        evaluate_fold: from a fold's number and the places of the clips outside it to [`evaluate`]'s result on it.
        output: folder for `evaluation.json`.

    Raises:
        SourceError: a clip has no fold, or there are fewer than two.
    """
    results: list[EvaluationResult] = []

    def train_fold(fold: int, others: list[int], _held_out: list[int]) -> list[Score]:
        results.append(evaluate_fold(fold, others))
        first, *_ = scores = results[-1].scores
        _state().print(f"{fold}: {first.metric} {first.value:.1f} %", flush=True)
        return scores

    scores = cross_validate(clips["fold"], train_fold)
    first = results[0]
    result = replace(
        first,
        model=first.model | {"name": str(output)},
        data=_describe(clips["clip_id"], first.data["name"]),
        protocol={"folds": len(results)} | {name: first.protocol[name] for name in ("classes", "average_views")},
        scores=scores,
    )
    _report(result, Path(output) / "evaluation.json")
    return result


def _evaluate_ours(settings: EvaluateSettings) -> EvaluationResult:
    """Score a retriever or a classifier of this package."""
    saved = read_saved(settings.model)
    model: Any = load_model(saved, (RETRIEVAL, CLASSIFICATION)).to(_state().device)
    extractor = load_processor(saved).feature_extractor
    clips = load_prepared(settings.shards)
    for column, value in (("split", settings.split), ("fold", settings.fold)):
        if value is not None:
            clips = clips.select_where(column, value)
    architecture = type(model).__name__
    task = next((task for end, task in TASKS.items() if architecture.endswith(end)), RETRIEVAL)
    if task == RETRIEVAL:
        scored = _score_embeddings(embed_clips(model, clips, extractor, batch_size=settings.batch_size), settings)
    else:
        scored = _evaluate_classification(model, clips, extractor, settings)
    facts = {"architecture": architecture, "parameters": model.num_parameters()}
    return _result(settings, task, facts, clips["clip_id"], *scored)


def _evaluate_foreign(settings: EvaluateSettings) -> EvaluationResult:
    """Score a model of another family, which reads the clips' files itself."""
    embedder = open_embedder(settings.model, _state().device)
    clips = find_evaluated(settings.shards, settings.model, split=settings.split, fold=settings.fold)
    embeddings = embed_specs(embedder, clips, batch_size=settings.batch_size)
    scores, protocol = _score_embeddings(embeddings, settings)
    architecture = type(embedder).__name__.removesuffix("Embedder")
    facts = {"architecture": architecture, "parameters": embedder.num_parameters}
    protocol |= {"segments": embedder.num_segments}
    return _result(settings, RETRIEVAL, facts, embeddings.clip_ids or (), scores, protocol)


def _result(
    settings: EvaluateSettings,
    task: str,
    facts: dict[str, Any],
    clip_ids: Sequence[str],
    scores: list[Score],
    protocol: dict[str, Any],
) -> EvaluationResult:
    """Scores, with `facts` about the model, which clips they are of and how they were measured."""
    drawn = {"seed": settings.seed, "resamples": settings.resamples, "confidence": CONFIDENCE}
    return EvaluationResult(
        task=task,
        model={"name": settings.model} | facts,
        data=_describe(clip_ids, settings.shards, split=settings.split, fold=settings.fold),
        protocol=drawn | protocol,
        scores=scores,
        versions=package_versions(),
    )


def _state() -> PartialState:
    """This process among those of the run."""
    return PartialState(cpu=not torch.accelerator.is_available())


def _describe(
    clip_ids: Sequence[str], name: str, *, split: str | None = None, fold: int | None = None
) -> dict[str, Any]:
    """Which clips were evaluated."""
    digest = hashlib.sha256("\n".join(clip_ids).encode()).hexdigest()[:16]
    return {"name": name, "split": split, "fold": fold, "clips": len(clip_ids), "digest": digest}


def _report(result: EvaluationResult, output: str | Path) -> None:
    """Write the file and print the table, in the main process alone."""
    if _state().is_main_process:
        result.save(output)
        print(f"{scores_table(result.scores)}\n\n{result.data['clips']} clips; {output} says what was measured and how")


def _score_embeddings(embeddings: ClipEmbeddings, settings: EvaluateSettings) -> tuple[list[Score], dict[str, Any]]:
    scores = score_retrieval(
        embeddings,
        pool_size=settings.pool_size,
        similarity=settings.similarity,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    clips = len(embeddings.video)
    pool_size = min(settings.pool_size, clips)
    return scores, {"pool_size": pool_size, "pools": clips // pool_size, "similarity": settings.similarity}


def _evaluate_classification(
    model: Classifier, clips: PreparedClips, extractor: CMMixerFeatureExtractor, settings: EvaluateSettings
) -> tuple[list[Score], dict[str, Any]]:
    """Scores, and how they were measured."""
    predictions = predict_clips(
        model, clips, extractor, average_views=settings.average_views, batch_size=settings.batch_size
    )
    scores = score_classification(predictions, resamples=settings.resamples, seed=settings.seed)
    samples, classes = predictions.labels.shape
    return scores, {"classes": classes, "samples": samples, "average_views": settings.average_views}
