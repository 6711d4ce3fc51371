"""What an index is and by which model it was made: one JSON file of its folder, which also lists its data files."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ..files import atomic_file
from ..media.reading import Sampling
from .index_rows import Precision

FACTS = "index.json"
FORMAT = 3


class DamagedIndexError(ValueError):
    """An index cannot be used; the message says what to do."""


class ModelMismatchError(ValueError):
    """An index and a query or library belong to different models; the message names both."""


@dataclass(frozen=True)
class IndexFacts:
    """What an index is.

    Args:
        model: name or folder of the model that made the embeddings.
        num_segments, size: K and the size of an embedding.
        identity: digest of that model and its extractor, see `embedder.py`; empty where it is not known.
        modality: of the items, `"audio"` or `"video"`.
        section_seconds, section_hop: how long files were cut; `None`: not at all.
        index_type: `"flat"`, `"ivf"` or `"hnsw"`.
        uri, collection: of a Milvus collection; `None` where the rows lie in the index's folder.
        precision: in which the segments are kept, see `index_rows.py`.
        sampling_version: of how this package read the files, see [`Sampling`].
    """

    model: str
    num_segments: int
    size: int
    identity: str = ""
    modality: str = "audio"
    section_seconds: float | None = None
    section_hop: float | None = None
    index_type: str = "flat"
    uri: str | None = None
    collection: str | None = None
    precision: Precision = "float16"
    sampling_version: int = Sampling.version

    @classmethod
    def from_note(cls, note: Mapping[str, Any]) -> "IndexFacts":
        """The fields as they were noted; the first version of reading files was not."""
        return cls(**{"sampling_version": 1} | dict(note))

    @property
    def model_name(self) -> str:
        """The model with the beginning of its identity, for messages."""
        return f"{self.model} ({self.identity[:8] or 'identity not known'})"

    def check_same_embeddings(self, other: "IndexFacts", where: str) -> None:
        """Refuse to add embeddings that `other` describes to the index `where`, which this describes, if they differ.

        Raises:
            ModelMismatchError: another model.
            ValueError: other settings.
        """
        if self.identity != other.identity:
            raise ModelMismatchError(
                f"{where} was made by {self.model_name}, not by {other.model_name}: "
                "give that model, or choose another folder"
            )
        for name in ("modality", "section_seconds", "section_hop", "precision", "sampling_version"):
            if getattr(self, name) != getattr(other, name):
                raise ModelMismatchError(
                    f"{where} was made with {name} {getattr(self, name)}, not {getattr(other, name)}: "
                    "give the same, or choose another folder"
                )


def write_facts(folder: Path, facts: IndexFacts, files: Mapping[str, Any]) -> None:
    """Make `files` the data files of an index, in one step. The model's path is noted relative to the folder, too.

    Where the index lies inside the model's folder, only the model's name is noted beside that.
    """
    note = {"format": FORMAT, **asdict(facts), "files": files}
    model = Path(facts.model).resolve()
    if model.is_dir():
        note["model"] = model.name if model in folder.resolve().parents else os.path.abspath(facts.model)
        note["model_from_here"] = os.path.relpath(facts.model, folder)
    with atomic_file(folder / FACTS) as partial:
        partial.write_text(json.dumps(note, indent=2))


def has_facts(folder: Path) -> bool:
    """Whether there is an index in a folder."""
    return (folder / FACTS).is_file()


def read_facts(folder: Path) -> tuple[IndexFacts, dict[str, Any]]:
    """What an index is, and its files.

    Raises:
        DamagedIndexError: there is none in the folder, or what describes it cannot be read.
    """
    path = folder / FACTS
    if not path.is_file():
        raise DamagedIndexError(f"{folder} holds no index: build one with `cmmixer index`")
    try:
        note = json.loads(path.read_text())
        form, files, beside = note.pop("format", 1), note.pop("files", {}), note.pop("model_from_here", None)
        if form != FORMAT:
            raise DamagedIndexError(
                f"{folder} was written by another version of cmmixer_hf: delete the folder and index the library again"
            )
        facts = IndexFacts.from_note(note)
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise DamagedIndexError(f"{path} is damaged ({error}): delete the folder and build it again") from error
    moved_along = beside is not None and (folder / beside).is_dir()
    return (replace(facts, model=os.path.abspath(folder / beside)) if moved_along else facts), files
