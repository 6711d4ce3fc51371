"""Saved models: what a folder or a Hub name holds, what it can be used for, and why it is refused for anything else.

Every command loads its model here, as the class that its configuration names and for the purposes of that class alone.
All weights come from the checkpoint, and none from a pickle, which could run code.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import PreTrainedConfig, PreTrainedModel

from .data.prepared_clips import SourceError
from .media.processing_cmmixer import CMMixerProcessor

RETRIEVAL, CLASSIFICATION, PRETRAINING, ENCODER = "retrieval", "classification", "pre-training", "a bare encoder"
_CMMIXER, _CAV_MAE, _BASELINES = "models.modeling_cmmixer", "models.modeling_cav_mae", "models.baselines"
# Class: where it is defined, and what it is for.
CLASSES: dict[str, tuple[str, str]] = {
    "CMMixerForRetrieval": (_CMMIXER, RETRIEVAL),
    "CAVMAEForRetrieval": (_CAV_MAE, RETRIEVAL),
    "CBMVRForRetrieval": (f"{_BASELINES}.modeling_cbmvr", RETRIEVAL),
    "CMMVRForRetrieval": (f"{_BASELINES}.modeling_cbmvr", RETRIEVAL),
    "CVMVAEForRetrieval": (f"{_BASELINES}.modeling_cvmvae", RETRIEVAL),
    "MVPtForRetrieval": (f"{_BASELINES}.modeling_mvpt", RETRIEVAL),
    "CMMixerForVideoClassification": (_CMMIXER, CLASSIFICATION),
    "CMMixerForAudioClassification": (_CMMIXER, CLASSIFICATION),
    "CAVMAEForAudioVisualClassification": (_CAV_MAE, CLASSIFICATION),
    "CMMixerForPreTraining": (_CMMIXER, PRETRAINING),
    "CAVMAEForPreTraining": (_CAV_MAE, PRETRAINING),
    "CMMixerModel": (_CMMIXER, ENCODER),
    "CAVMAEModel": (_CAV_MAE, ENCODER),
}
INSTEAD = {
    RETRIEVAL: "fine-tune it for retrieval (examples/finetune_retrieval.py) and give the folder that this writes",
    CLASSIFICATION: "fine-tune it for classification (examples/finetune_classification.py)",
    PRETRAINING: "give a pre-trained model (examples/pretrain.py, or DEMO/pretrained)",
}


@dataclass(frozen=True)
class SavedModel:
    """What the configuration of a saved model says.

    Args:
        name: folder or Hub name.
        architecture: the class that was saved; empty where it is not noted.
        config: its `config.json`.
        revision: branch, tag or commit of a Hub name; `None` for the newest.
    """

    name: str
    architecture: str
    config: dict[str, Any]
    revision: str | None = None

    @property
    def model_type(self) -> str:
        """transformers' name of the family."""
        return str(self.config.get("model_type", ""))

    @property
    def purpose(self) -> str | None:
        """What its class is for; `None` where it is none of ours."""
        return CLASSES[self.architecture][1] if self.architecture in CLASSES else None


def read_saved(name: str | Path, *, revision: str | None = None) -> SavedModel:
    """What a folder or a Hub name holds, by its configuration; no weight is read.

    Raises:
        SourceError: there is no model.
    """
    name = str(name)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        inner = sorted(str(path.parent) for path in Path(name).glob("*/config.json"))
        hint = f"; models lie in {', '.join(inner)}" if inner else ": give the folder that `save_pretrained` wrote"
        raise SourceError(f"{name} holds no config.json, so it is not a saved model{hint}")
    asked = {"revision": revision} if revision else {}
    try:
        config, _ = PreTrainedConfig.get_config_dict(name, **asked)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"{name} is neither a model's folder nor a Hub name that can be reached: {reason}") from error
    return SavedModel(name, (config.get("architectures") or [""])[0], config, revision)


def load_model(
    name: str | Path | SavedModel, purposes: Sequence[str] = (RETRIEVAL,), *, revision: str | None = None
) -> PreTrainedModel:
    """A saved model of one of these purposes, in evaluation mode, with every weight from the checkpoint.

    Args:
        name: folder or Hub name, or what [`read_saved`] read there.
        purposes: any of `RETRIEVAL`, `CLASSIFICATION` and `PRETRAINING`.
        revision: branch, tag or commit of a Hub name.

    Raises:
        SourceError: there is none, it is for something else, or weights are missing; the message says what would do.
    """
    saved = name if isinstance(name, SavedModel) else read_saved(name, revision=revision)
    return load_saved(find_class(class_name(saved, purposes)), saved)


def load_saved(model_class: Any, saved: SavedModel, **options: Any) -> Any:
    """A saved model as a class of this package or of transformers, in evaluation mode, from safetensors alone.

    Args:
        model_class: that has `from_pretrained`.
        saved: what [`read_saved`] read.
        options: further ones of `from_pretrained`.

    Raises:
        SourceError: the weights cannot be read, or some are missing.
    """
    options |= {"revision": saved.revision} if saved.revision else {}
    options |= {"use_safetensors": True, "output_loading_info": True}
    try:
        model, report = model_class.from_pretrained(saved.name, **options)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise SourceError(f"the weights of {saved.name} cannot be loaded: {_reason(saved, error)}") from error
    if missing := sorted(report["missing_keys"]):
        raise SourceError(
            f"{saved.name} lacks {len(missing)} of the weights of a {model_class.__name__}, such as {missing[0]}, and "
            "none is made up: save the whole model again"
        )
    return model.eval()


def load_processor(saved: SavedModel, processor_class: Any = CMMixerProcessor) -> Any:
    """What makes a model's inputs, by default a [`CMMixerProcessor`].

    Raises:
        SourceError: it was not saved with the model.
    """
    asked: dict[str, Any] = {"revision": saved.revision} if saved.revision else {}
    try:
        return processor_class.from_pretrained(saved.name, **asked)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(
            f"{saved.name} was saved without its processor: save one there, {processor_class.__name__}(…)"
            f".save_pretrained(…) ({reason})"
        ) from error


def class_name(saved: SavedModel, purposes: Sequence[str]) -> str:
    """Which class a saved model is opened as for one of these purposes.

    CAV-MAE trains its contrast together with its reconstruction, so that a pre-trained one is a retriever, too.

    Raises:
        SourceError: it is for something else; the message says what it is and what would do.
    """
    if saved.purpose in purposes:
        return saved.architecture
    contrasted = saved.architecture == "CAVMAEForPreTraining" and saved.config.get("contrastive_weight", 0.01) > 0
    if RETRIEVAL in purposes and contrasted:
        return "CAVMAEForRetrieval"
    held = saved.architecture or saved.model_type or "model of a class that is not noted"
    use = f", for {saved.purpose}" if saved.purpose in INSTEAD else ""
    if saved.purpose is None:
        ours = [name for name, (_, purpose) in CLASSES.items() if purpose in purposes]
        raise SourceError(f"{saved.name} is a {held}, which is not supported here: give one of {', '.join(ours)}")
    raise SourceError(f"{saved.name} is a {held}{use}, not for {' or '.join(purposes)}: {INSTEAD[purposes[0]]}")


def find_class(architecture: str) -> Any:
    """The class of this name.

    Raises:
        SourceError: there is none in this package.
    """
    if architecture not in CLASSES:
        raise SourceError(f"{architecture} is no class of this package, which has {', '.join(CLASSES)}")
    return getattr(import_module(f".{CLASSES[architecture][0]}", __package__), architecture)


def _reason(saved: SavedModel, error: Exception) -> str:
    """In words what keeps weights from being loaded."""
    folder = Path(saved.name)
    pickled = [path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in folder.glob(pattern)]
    if pickled and not any(folder.glob("*.safetensors")):
        return f"{pickled[0]} is a pickle, which could run code; save the model with safetensors (`save_pretrained`)"
    return " ".join(str(error).split())
