"""The README of a trained model, rendered from what its folder holds: numbers are read, never typed.

| file | the card takes from it |
|---|---|
| `config.json` | architecture and sizes |
| `settings.yaml` or `training_settings.json` | how it was trained |
| `environment.json`, `metrics.jsonl` | on what, for how long |
| `evaluation.json` | scores ([`read_scores`]) |
| `card.yaml` | facts that no other file holds: the fields of [`CardFacts`] |
"""

import json
import math
import os
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from huggingface_hub import ModelCard, ModelCardData
from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedModel

from ..data.batches import SourceError
from ..data.dataset_card import SHARDS, write_dataset_card
from ..evaluation.results import model_index, read_scores, results_table
from ..loading import find_class, read_saved
from ..settings import CardSettings
from .settings import FREE

_TEMPLATE = Path(__file__).with_suffix(".md")
APACHE = "apache-2.0"
PACKAGE = "cmmixer_hf"
# What a class does, its purpose, and the Hub's name of its task, by the end of the class's name.
KINDS = {
    "ForPreTraining": (
        "A masked autoencoder of video and audio.",
        "It is a start for models of video and music: fine-tune its encoder for retrieval or classification. "
        "By itself it predicts hidden patches, and that not well enough to look at or to listen to.",
        None,
    ),
    "ForRetrieval": (
        "Two towers that find music for a video and footage for a track.",
        "It ranks the tracks of a library for a clip and the clips of a library for a track: suggestions for somebody "
        "who then listens and looks. Fine-tune it on your own pairs, which it is most likely to need.",
        "feature-extraction",
    ),
    "ForVideoClassification": (
        "A classifier of videos by their picture.",
        "It names one of its classes for a clip, or several where it was trained so.",
        None,  # transformers' pipeline of that name takes processors of images alone
    ),
    "ForAudioClassification": (
        "A classifier of sounds.",
        "It names one of its classes for a recording, or several where it was trained so.",
        "audio-classification",
    ),
    "": (
        "An encoder of video or sound.",
        "It turns frames or spectrograms into tokens for models that are built on it.",
        "feature-extraction",
    ),
}


@dataclass(frozen=True)
class CardFacts:
    """Facts that a checkpoint's files do not hold.

    Args:
        name: on the Hub (`you/model`); the folder's name by default.
        trained_on: ends the sentence "Trained on …".
        datasets: ids on the Hub of what it was trained on.
        base_model: id on the Hub of what it starts from.
        evaluated_on: name of the clips of `evaluation.json`; what stands there by default.
        limits: sentences for the card's section of that name.
        license: id on the Hub of the weights' licence.
    """

    name: str | None = None
    trained_on: str | None = None
    datasets: list[str] = field(default_factory=list)
    base_model: str | None = None
    evaluated_on: str | None = None
    limits: list[str] = field(default_factory=list)
    license: str = APACHE


def write_model_card(folder: str | Path, *, evaluated: bool = True, **facts: Any) -> Path:
    """Write the `README.md` of a checkpoint's folder; a second time, after an evaluation, it has the scores too.

    Args:
        folder: what `save_pretrained` or a training run left.
        evaluated: whether an `evaluation.json` there is of these weights, and not of others that lay there before.
        facts: fields of [`CardFacts`]; they are kept in `card.yaml` for the next time.

    Raises:
        ValueError: a fact is unknown, or a file of the folder is not what it should be.
    """
    folder = Path(folder)
    unknown = facts.keys() - {entry.name for entry in fields(CardFacts)}
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no field of CardFacts: {', '.join(asdict(CardFacts()))}")
    kept = _read(folder / "card.yaml") | facts
    if kept:
        (folder / "card.yaml").write_text(yaml.safe_dump(kept, sort_keys=False, allow_unicode=True), encoding="utf-8")
    target = folder / "README.md"
    render_model_card(folder, evaluated=evaluated).save(target)
    return target


def render_model_card(folder: str | Path, *, evaluated: bool = True) -> ModelCard:
    """The card of a checkpoint's folder, not written anywhere; arguments as in [`write_model_card`]."""
    folder = Path(folder)
    architecture = read_saved(folder).architecture or "CMMixerModel"
    model_class = find_class(architecture)
    config = model_class.config_class.from_pretrained(folder)
    facts = CardFacts(**_read(folder / "card.yaml"))
    settings = _read(folder / "settings.yaml") or _read(folder / "training_settings.json")
    evaluation = _read(folder / "evaluation.json") if evaluated else {}
    scores = read_scores(evaluation)
    name = facts.name or folder.resolve().name
    kind = next(kind for kind in KINDS if architecture.endswith(kind))
    summary, purpose, pipeline_tag = KINDS[kind]
    return ModelCard.from_template(
        _metadata(config, facts, pipeline_tag, name=name, evaluation=evaluation),
        template_path=str(_TEMPLATE),
        **asdict(facts) | {"name": name},
        summary=summary,
        purpose=purpose,
        architecture=architecture,
        module=_module(config, architecture),
        kind=kind,
        config=config,
        parameters=f"{_count_parameters(folder, config, model_class):,}",
        config_class=type(config),
        changes=", ".join(f"{key}={value!r}" for key, value in _changes(config).items()).replace("'", '"'),
        trained=any(folder.glob("*.safetensors")) or facts.trained_on is not None,
        compute=_compute(folder, settings),
        settings=_settings_table(settings),
        results=results_table(scores) if scores else "",
        protocol=_protocol(evaluation, facts),
        picture=max((path.name for path in folder.glob("pictures/*.png")), default=None),
        apache=facts.license == APACHE,
    )


def write_card(settings: CardSettings) -> None:
    """Write `README.md` and say how to share the folder.

    Raises:
        SourceError: the folder holds neither a model nor shards.
    """
    folder = Path(settings.folder)
    given: dict[str, Any] = {"name": settings.name, "license": settings.license}
    facts = {name: value for name, value in given.items() if value}
    if (folder / "config.json").exists():
        written, kind = write_model_card(folder, **facts), ""
    elif any(folder.glob(SHARDS)):
        written, kind = write_dataset_card(folder, **facts), " --repo-type dataset"
    else:
        raise SourceError(f"{folder} holds neither config.json nor {SHARDS}: give the folder of a model or of shards")
    print(f"{written}\nShare it: hf upload {settings.name or 'YOU/NAME'} {folder}{kind}")


def _metadata(
    config: PreTrainedConfig, facts: CardFacts, pipeline_tag: str | None, *, name: str, evaluation: dict[str, Any]
) -> ModelCardData:
    """What the Hub reads of a card: what the model is, and its scores."""
    data = ModelCardData(
        library_name="cmmixer_hf",
        license=facts.license,
        pipeline_tag=pipeline_tag,
        tags=[config.model_type, "music-retrieval", "video", "audio", "masked-autoencoder"],
        datasets=facts.datasets or None,
        base_model=facts.base_model,
    )
    if scores := read_scores(evaluation):
        dataset, split = _measured_on(evaluation, facts)
        data.model_name = name
        data.eval_results = model_index(scores, task=evaluation.get("task", "retrieval"), dataset=dataset, split=split)
        data.metrics = sorted({result.metric_type for result in data.eval_results})
    return data


def _changes(config: PreTrainedConfig) -> dict[str, Any]:
    """Fields of a configuration that are not what its class has by default."""
    default = type(config)().to_dict()
    fields = [name for name in type(config).__annotations__ if name in default]
    return {name: value for name in fields if (value := getattr(config, name)) != default[name]}


def _module(config: PreTrainedConfig, architecture: str) -> str:
    """Where the model's class is imported from: the package, or for one that is not public the file of its config."""
    return PACKAGE if architecture in import_module(PACKAGE).__all__ else type(config).__module__


def _count_parameters(folder: Path, config: PreTrainedConfig, model_class: type[PreTrainedModel]) -> int:
    """Of the weights that lie there, or else of a model of this configuration."""
    if files := sorted(folder.glob("*.safetensors")):
        return sum(map(_count_weights, files))
    with torch.device("meta"):
        return model_class(config).num_parameters()


def _count_weights(path: Path) -> int:
    with safe_open(path, "pt") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118 - no dict


def _compute(folder: Path, settings: dict[str, Any]) -> list[str]:
    """Sentences on how long it took, and on what."""
    environment = _read(folder / "environment.json")
    history = folder / "metrics.jsonl"
    entries = (
        [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()] if history.exists() else []
    )
    processes = environment.get("processes", 1)
    sentences = []
    if entries:
        clips = settings.get("batch_size", 0) * settings.get("accumulation_steps", 1) * processes
        sentences.append(f"{entries[-1]['step']:,} steps" + (f" of {clips:,} clips." if clips else "."))
    if environment.get("devices"):
        sentences.append(f"On {', '.join(environment['devices'])}, {processes} process{'es' * (processes > 1)}.")
    return sentences


def _settings_table(settings: dict[str, Any]) -> str:
    """Settings that change the result as a Markdown table, without paths of the machine where it ran."""
    shown = {
        name: value
        for name, value in settings.items()
        if name not in FREE and not (isinstance(value, str) and os.sep in value)
    }
    return (
        "\n".join(["| setting | value |", "|---|---|", *(f"| `{n}` | {v} |" for n, v in shown.items())])
        if shown
        else ""
    )


def _measured_on(evaluation: dict[str, Any], facts: CardFacts) -> tuple[str, str | None]:
    """Name and split of the clips that were evaluated."""
    data = evaluation.get("data", {})
    return facts.evaluated_on or Path(data.get("name", "held-out clips")).name, data.get("split")


def _protocol(evaluation: dict[str, Any], facts: CardFacts) -> str:
    """A sentence on what the scores were measured on and how."""
    name, _ = _measured_on(evaluation, facts)
    data = evaluation.get("data", {})
    how = {key: data.get(key) for key in ("clips", "split", "fold")} | evaluation.get("protocol", {})
    shown = "; ".join(f"{key.replace('_', ' ')}: {value}" for key, value in how.items() if value is not None)
    return f"Measured on {name}{' (' + shown + ')' if shown else ''}. Shares are in percent, ranks count from 1."


def _read(path: Path) -> dict[str, Any]:
    """A JSON or YAML file; nothing where there is none."""
    content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object of names and values, got {type(content).__name__}")
    return content
