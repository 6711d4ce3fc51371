"""A saved model and prepared clips → scores in a JSON file (`cmmixer evaluate`), in one process or in many.

cmmixer evaluate SHARDS --model MODEL
torchrun --nproc_per_node 8 -m cmmixer_hf.cli evaluate SHARDS --model MODEL
"""

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from accelerate import PartialState
from datasets import Dataset
from transformers import AutoConfig

from .classification import Classifier, predict_clips, score_classification
from .data import SourceError, load_prepared
from .evaluation import POOL_SIZE, embed_clips, score_retrieval
from .feature_extraction_cmmixer import CMMixerFeatureExtractor
from .intervals import CONFIDENCE
from .modeling_cmmixer import CMMixerForAudioClassification, CMMixerForRetrieval, CMMixerForVideoClassification
from .processing_cmmixer import CMMixerProcessor
from .results import EvaluationResult, Score, package_versions, scores_table

Evaluated = CMMixerForRetrieval | CMMixerForVideoClassification | CMMixerForAudioClassification
TASKS: dict[type[Evaluated], str] = {
    CMMixerForRetrieval: "retrieval",
    CMMixerForVideoClassification: "video-classification",
    CMMixerForAudioClassification: "audio-classification",
}


@dataclass
class EvaluateSettings:
    """Score a retrieval model or a classifier on prepared clips."""

    shards: str = field(metadata={"help": "folder that `cmmixer prepare` wrote"})
    model: str = field(metadata={"help": "folder or Hub name of a fine-tuned model"})
    output: str = field(default="evaluation.json", metadata={"help": "JSON file for the results"})
    split: str | None = field(default=None, metadata={"help": "evaluate the clips of this split alone"})
    pool_size: int = field(default=POOL_SIZE, metadata={"help": "candidates of a query; more clips make several pools"})
    similarity: Literal["segments", "pooled"] = field(default="segments", metadata={"help": "how two clips compare"})
    average_views: bool = field(default=False, metadata={"help": "average predictions over the clips of one file"})
    batch_size: int = field(default=32, metadata={"help": "clips at a time"})
    resamples: int = field(default=1000, metadata={"help": "of the bootstrap that gives the intervals"})
    seed: int = field(default=0, metadata={"help": "of the pools and of the bootstrap"})


def evaluate(settings: EvaluateSettings) -> EvaluationResult:
    """Score a model, print the table and write the file; under torchrun every process works on its share.

    Raises:
        SourceError: the model or the shards cannot be used; the message says why.
    """
    if min(settings.pool_size, settings.batch_size, settings.resamples) < 1:
        raise SourceError(
            "pool_size, batch_size and resamples must be at least 1, got "
            f"{settings.pool_size}, {settings.batch_size} and {settings.resamples}"
        )
    state = PartialState(cpu=not torch.accelerator.is_available())
    model = load_for_evaluation(settings.model).to(state.device)
    extractor = CMMixerProcessor.from_pretrained(settings.model).feature_extractor
    clips = _select(load_prepared(settings.shards), settings)
    if isinstance(model, CMMixerForRetrieval):
        scores, protocol = _evaluate_retrieval(model, clips, extractor, settings)
    else:
        scores, protocol = _evaluate_classification(model, clips, extractor, settings)
    result = EvaluationResult(
        task=TASKS[type(model)],
        model={
            "name": settings.model,
            "architecture": type(model).__name__,
            "parameters": model.num_parameters(),
        },
        data={
            "name": settings.shards,
            "split": settings.split,
            "clips": len(clips),
            "digest": hashlib.sha256("\n".join(clips["clip_id"]).encode()).hexdigest()[:16],
        },
        protocol={"seed": settings.seed, "resamples": settings.resamples, "confidence": CONFIDENCE} | protocol,
        scores=scores,
        versions=package_versions(),
    )
    if state.is_main_process:
        result.save(settings.output)
        print(f"{scores_table(scores)}\n\n{len(clips)} clips; {settings.output} says what was measured and how")
    return result


def load_for_evaluation(model: str) -> Evaluated:
    """A saved model as the class that its configuration names, from safetensors only.

    Raises:
        SourceError: there is no such model, or it has no head to evaluate.
    """
    classes = {model_class.__name__: model_class for model_class in TASKS}
    try:
        architecture = (AutoConfig.from_pretrained(model).architectures or ["no architecture"])[0]
        if architecture not in classes:
            raise SourceError(f"{model} is a {architecture}; fine-tune it first: scored are {', '.join(classes)}")
        return classes[architecture].from_pretrained(model, use_safetensors=True)
    except OSError as error:
        raise SourceError(f"{model} is neither a model's folder nor a Hub name that can be reached: {error}") from error


def _select(clips: Dataset, settings: EvaluateSettings) -> Dataset:
    """The clips of the split asked for."""
    if settings.split is None:
        return clips
    places = [place for place, split in enumerate(clips["split"]) if split == settings.split]
    if not places:
        there = sorted({str(split) for split in clips["split"]})
        raise SourceError(f"{settings.shards} holds no clip of split {settings.split!r}; it has {', '.join(there)}")
    return clips.select(places)


def _evaluate_retrieval(
    model: CMMixerForRetrieval, clips: Dataset, extractor: CMMixerFeatureExtractor, settings: EvaluateSettings
) -> tuple[list[Score], dict[str, Any]]:
    """Scores, and how they were measured."""
    scores = score_retrieval(
        embed_clips(model, clips, extractor, batch_size=settings.batch_size),
        pool_size=settings.pool_size,
        similarity=settings.similarity,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    pool_size = min(settings.pool_size, len(clips))
    return scores, {"pool_size": pool_size, "pools": len(clips) // pool_size, "similarity": settings.similarity}


def _evaluate_classification(
    model: Classifier, clips: Dataset, extractor: CMMixerFeatureExtractor, settings: EvaluateSettings
) -> tuple[list[Score], dict[str, Any]]:
    """Scores, and how they were measured."""
    predictions = predict_clips(
        model, clips, extractor, average_views=settings.average_views, batch_size=settings.batch_size
    )
    scores = score_classification(predictions, resamples=settings.resamples, seed=settings.seed)
    samples, classes = predictions.labels.shape
    return scores, {"classes": classes, "samples": samples, "average_views": settings.average_views}
