"""A digest of what embeds: two models with the same one give the same embeddings, wherever they lie."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ...media.feature_extraction_cmmixer import CMMixerFeatureExtractor

# Values of each weight that the identity reads, evenly spread: training moves nearly all, and so many take no time.
VALUES_PER_WEIGHT = 4096
# Fields of nested configurations that do not affect what is computed.
INCIDENTAL = {"_name_or_path", "architectures", "dtype", "transformers_version"}


def model_identity(model: PreTrainedModel, extractor: CMMixerFeatureExtractor) -> str:
    """A digest of the configuration and weights of a model of this package and of its extractor's settings.

    It does not depend on where the model lies: one that was moved, renamed or saved in other shards keeps its
    identity; one that was trained further, or fed with another window of sound, does not. Of each weight it reads its
    shape and [`VALUES_PER_WEIGHT`] values; of the settings, those that differ from the default, so that a later version
    of this package with more of them computes the same identity.
    """
    changes = []
    for settings, default, names in (
        (model.config.to_dict(), type(model.config)().to_dict(), _fields(type(model.config))),
        (extractor.to_dict(), type(extractor)().to_dict(), extractor.to_dict()),
    ):
        changes.append({name: settings[name] for name in sorted(names) if settings.get(name) != default.get(name)})
    return weights_identity(model, *changes)


def weights_identity(model: nn.Module, *settings: Mapping[str, Any]) -> str:
    """A digest of a model's weights and of settings that can be written as JSON."""
    digest = hashlib.sha256()
    for setting in settings:
        digest.update(json.dumps(_essential(setting)).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: -(-len(flat) // VALUES_PER_WEIGHT) or 1].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


def _fields(config_class: type) -> set[str]:
    """Fields that a configuration's class adds to those of transformers."""
    ours = [base for base in config_class.__mro__ if base.__module__.split(".")[0] == __package__.split(".")[0]]
    return {name for base in ours for name in base.__annotations__ if not name.startswith("default_")}


def _essential(value: Any) -> Any:
    """Settings without the [`INCIDENTAL`] ones, at any depth."""
    if isinstance(value, Mapping):
        return {key: _essential(inner) for key, inner in value.items() if key not in INCIDENTAL}
    return value
