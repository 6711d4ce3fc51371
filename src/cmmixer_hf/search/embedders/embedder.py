"""The interface that search and evaluation need of any model, and how one is opened by its name."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from transformers.utils import cached_file

from ...data.prepared_clips import SourceError
from ...loading import CLASSES, SavedModel, read_saved
from ...media.reading import Sampling
from ...models.modeling_cmmixer import MODALITIES

__all__ = ["MODALITIES", "Embedder", "is_ours", "open_embedder"]
# transformers' name of a family: file and class of what embeds with it.
FAMILIES = {"pe_audio_video": ("pe_av", "PEAVEmbedder"), "clap": ("clap", "CLAPEmbedder")}
SENTENCE_TRANSFORMER = "modules.json"  # lies in every Sentence Transformer


class Embedder(Protocol):
    """A model with its pre-processing: decoded clips and words → L2-normalised vectors that compare by cosine.

    Args:
        name: folder or Hub name.
        identity: a digest of weights and settings; embeddings of another identity do not compare with these.
        num_segments: K, vectors that a clip or a section becomes, in the order of time.
        size: components of a vector.
        modalities: those of `"video"`, `"audio"` and `"text"` that it embeds.
        num_parameters: weights that it has.
    """

    name: str
    identity: str
    num_segments: int
    size: int
    modalities: tuple[str, ...]
    num_parameters: int

    def sampling(self, modality: str) -> Sampling:
        """What to read of a section: how many frames or windows of sound, of how many seconds, Hz and pixels."""

    def embed_batch(self, clips: Sequence[np.ndarray], modality: str, *, is_query: bool = False) -> Tensor:
        """Embed what was read, (clips, K, size) on the CPU.

        Args:
            clips: as [`sampling`] says, frames (frames, height, width, 3) uint8 or sound (windows, samples) in ±1.
            modality: `"video"` or `"audio"`.
            is_query: embed as a query instead of a document, for models that distinguish the two.
        """

    def embed_text(self, texts: Sequence[str], target: str) -> Tensor:
        """Embed words that describe what is looked for, (texts, K, size) on the CPU: one vector, K times.

        Args:
            texts: in the model's languages.
            target: modality of what is searched; some models have a head for each.

        Raises:
            SourceError: the model knows no words.
        """


def open_embedder(
    model: str | Path,
    device: torch.device | str | None = None,
    *,
    revision: str | None = None,
    num_segments: int | None = None,
) -> Embedder:
    """Open a saved model of any kind that embeds sound or pictures.

    Args:
        model: folder or Hub name of a retriever of this package, of PE-AV (`facebook/pe-av-small`), of a Sentence
            Transformer that takes video or audio (`google/embeddinggemma-2`), or of CLAP (sound and words).
        device: where it runs; the first GPU, or the CPU where there is none, by default.
        revision: branch, tag or commit of a Hub name; the newest by default.
        num_segments: K, windows of a section that a model of one vector embeds one by one, 3 by default; our own models
            have a K of their own.

    Raises:
        SourceError: there is no such model, or it does not embed media; the message says what would do.
    """
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    saved = _read(str(model), revision)
    file, name = _family_of(saved)
    if file:
        return getattr(import_module(f".{file}", __package__), name)(saved, place, num_segments=num_segments)
    held = saved.architecture or saved.model_type or "model of a class that is not noted"
    raise SourceError(
        f"{model} is a {held}, which embeds neither sound nor pictures here: give a retriever of this package, PE-AV, "
        "CLAP, or a Sentence Transformer that takes video or audio"
    )


def is_ours(model: str | Path) -> bool:
    """Whether a folder or a Hub name holds a model of this package, a retriever or another."""
    return _read(str(model), None).architecture in CLASSES


def _read(model: str, revision: str | None) -> SavedModel:
    """What the model's configuration says; a Sentence Transformer may have none."""
    try:
        return read_saved(model, revision=revision)
    except SourceError:
        if _has_file(model, SENTENCE_TRANSFORMER, revision):
            return SavedModel(model, "", {}, revision)
        raise


def _family_of(saved: SavedModel) -> tuple[str, str]:
    """File and class of what embeds with a model; empty where nothing does."""
    if saved.architecture in CLASSES:
        return "towers", "TowerEmbedder"
    if saved.model_type in FAMILIES:
        return FAMILIES[saved.model_type]
    if _has_file(saved.name, SENTENCE_TRANSFORMER, saved.revision):
        return "sentence_transformer", "SentenceTransformerEmbedder"
    return "", ""


def _has_file(model: str, name: str, revision: str | None) -> bool:
    """Whether a folder or a repository on the Hub holds a file; `False`, too, where the Hub does not answer."""
    if Path(model).is_dir():
        return (Path(model) / name).is_file()
    if Path(model).is_absolute() or model.startswith("."):
        return False
    try:
        path = cached_file(
            model,
            name,
            revision=revision,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    except OSError:
        return False
    return path is not None
