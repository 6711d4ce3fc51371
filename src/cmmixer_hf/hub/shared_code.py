"""Our code beside the weights: a checkpoint that loads where this package is not installed."""

import inspect
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.dynamic_module_utils import get_relative_import_files

from ..data.batches import SourceError
from ..files import atomic_file
from ..loading import RETRIEVAL, find_class, read_saved
from .auto_classes import AUTO_CLASSES, load_named

_OF_INPUTS = ("AutoFeatureExtractor", "AutoProcessor")


def share_with_code(folder: str | Path) -> list[Path]:
    """Write our files into the folder of a saved model, and into its configuration which Auto class leads where.

    Who loads it with `trust_remote_code=True` needs transformers, and PyAV for the processor, but not this package.
    All Auto classes of the model's family are named. There is none for retrieval: `AutoModel` leads to a retriever
    where one was saved, and else to the encoder.

    Args:
        folder: what `save_pretrained` of a model, and of its processor, wrote.

    Returns:
        The files that were written beside the weights.

    Raises:
        SourceError: the folder holds no model of this package.
    """
    folder = Path(folder)
    saved = read_saved(folder)
    rows = [(_last(auto), load_named(config), ours) for auto, config, ours in AUTO_CLASSES]
    classes = {auto: load_named(ours) for auto, config, ours in rows if config.model_type == saved.model_type}
    if not classes:
        raise SourceError(f"{folder} holds a model of type {saved.model_type!r}, which is none of this package")
    if saved.purpose == RETRIEVAL:
        classes["AutoModel"] = find_class(saved.architecture)
    of_inputs = {auto: classes.pop(auto) for auto in _OF_INPUTS}
    inputs = [folder / "processor_config.json", folder / "preprocessor_config.json"]
    named = {path: of_inputs for path in inputs if path.exists()} | {folder / "config.json": classes}
    used = {ours for leads in named.values() for ours in leads.values()}
    written = sorted({_copy(source, folder) for ours in used for source in _files(ours)})
    for path, leads in named.items():  # after the code, so that none leads to a file that is not there
        _name_classes(path, leads)
    return written


def _name_classes(path: Path, classes: dict[str, type]) -> None:
    """Note in a JSON file which Auto class leads where; an extractor inside a processor has its own note."""
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    names = {auto: f"{_last(ours.__module__)}.{ours.__name__}" for auto, ours in classes.items()}
    content["auto_map"] = names
    if isinstance(inner := content.get("feature_extractor"), dict):
        inner["auto_map"] = {"AutoFeatureExtractor": names["AutoFeatureExtractor"]}
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _files(ours: type) -> Iterator[Path]:
    """The file of a class, and those that it imports."""
    source = inspect.getfile(ours)
    yield from map(Path, [source, *get_relative_import_files(source)])


def _copy(source: Path, folder: Path) -> Path:
    with atomic_file(folder / source.name) as partial:
        shutil.copyfile(source, partial)
    return folder / source.name


def _last(name: str) -> str:
    return name.rpartition(".")[2]
