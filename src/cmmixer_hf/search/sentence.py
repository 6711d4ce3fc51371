"""Our retrievers as Sentence Transformers: `encode` of files, process pools, small embeddings, evaluators (extra
`[sentence]`).

A clip's embedding is its K segments side by side, (K · size) with norm 1: the cosine of two is then the score that
Eq. 2 trains, the mean over segments (§3.4). A prompt says which modality of a file is meant: by default
queries are pictures and documents are sounds.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..files import atomic_file
from ..loading import load_model, load_processor, read_saved
from ..media.processing_cmmixer import CMMixerProcessor
from ..media.reading import probe
from .embedders.embedder import MODALITIES

PROMPTS = {"query": "video", "document": "audio"}
INPUT_NAMES = {"video": "pixel_values", "audio": "audio_values"}


def sentence_transformer(model: str | Path, *, revision: str | None = None, **options: Any) -> SentenceTransformer:
    """A retriever of this package as a Sentence Transformer; `save_pretrained` writes a folder that is both.

    Args:
        model: folder or Hub name of a retriever saved with its processor.
        revision: branch, tag or commit of a Hub name; the newest by default.
        options: of `SentenceTransformer`, such as `device`.

    Raises:
        SourceError: there is no such model, or it is no retriever.

    Example:

        model = sentence_transformer("checkpoints/cmmixer-small-yardstick")
        model.similarity(model.encode_query(["clip.mp4"]), model.encode_document(["a.mp3", "b.mp3"]))
    """
    module = RetrieverModule.load(str(model), revision=revision)
    return SentenceTransformer(modules=[module], prompts=PROMPTS, similarity_fn_name="cosine", **options)


class RetrieverModule(InputModule):
    """The one module of such a Sentence Transformer: files in, embeddings (batch, K · size) out.

    Args:
        model: a retriever with `get_video_features` and `get_audio_features`.
        processor: what makes its inputs.
    """

    config_keys: list[str] = []  # noqa: RUF012 - as its base class declares it

    def __init__(self, model: PreTrainedModel, processor: CMMixerProcessor):
        super().__init__()
        self.model: Any = model
        self.processor = processor

    @property
    def modalities(self) -> list[Any]:
        """What it takes: files or arrays of either modality, or both in a dictionary."""
        return [*MODALITIES, tuple(MODALITIES), tuple(reversed(MODALITIES))]

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Stacks of a batch, and the rows of it that each belongs to.

        Args:
            inputs: paths; or dictionaries with `video` (a path or frames (K, height, width, 3) uint8), `audio` (a
                path, windows (K, samples), or a waveform with its rate as `{"array", "sampling_rate"}`) or both.
            prompt: which side of a path is meant, `"video"` or `"audio"`; its picture where it has one by default.
            kwargs: not used.

        Raises:
            MediaError: a file cannot be used.
            ValueError: the prompt is another.
        """
        if prompt and prompt not in MODALITIES:
            raise ValueError(f"a prompt says which side of a file is meant, {' or '.join(MODALITIES)}; got {prompt!r}")
        sides = [_sides(one, prompt) for one in inputs]
        features: dict[str, Any] = {"batch_size": len(sides)}
        for side, name in INPUT_NAMES.items():
            rows = [row for row, given in enumerate(sides) if side in given]
            if rows:
                stacks = [self._stack(side, sides[row][side]) for row in rows]
                features |= {name: torch.cat(stacks), f"{side}_rows": torch.tensor(rows)}
        return features

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding` (batch, K · size); of a clip with both sides, their normalised sum (§5.2)."""
        total: Tensor | None = None
        for side, name in INPUT_NAMES.items():
            if name in features:
                embed = self.model.get_video_features if side == "video" else self.model.get_audio_features
                segments = embed(**{name: features[name]}).segment_embeds.float()  # (rows, K, size)
                if total is None:
                    total = segments.new_zeros(features["batch_size"], *segments.shape[1:])
                total = total.index_add(0, features[f"{side}_rows"].to(segments.device), segments)
        if total is None:
            raise ValueError("expected pixel_values, audio_values or both in the features, got neither")
        segments = nn.functional.normalize(total, dim=-1)
        return features | {"sentence_embedding": segments.flatten(1) / segments.shape[1] ** 0.5}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write the model and its processor as always, and the note that mteb reads: that it takes video and sound."""
        self.model.save_pretrained(output_path)
        self.processor.save_pretrained(output_path)
        with atomic_file(Path(output_path) / "sentence_bert_config.json") as partial:
            partial.write_text(json.dumps({"modality_config": {side: {} for side in MODALITIES}}), encoding="utf-8")

    @classmethod
    def load(cls, model_name_or_path: str, *args: Any, revision: str | None = None, **kwargs: Any) -> "RetrieverModule":
        """Open what [`save`] wrote, or any retriever of ours; safetensors alone."""
        saved = read_saved(model_name_or_path, revision=revision)
        return cls(load_model(saved), load_processor(saved))

    def _stack(self, side: str, value: Any) -> Tensor:
        """Stack of one clip, (1, K, 3, height, width)."""
        given: dict[str, Any] = {"videos" if side == "video" else "audio": value}
        if isinstance(value, Mapping):
            given = {"audio": np.asarray(value["array"]), "sampling_rate": value["sampling_rate"]}
        return self.processor(**given)[INPUT_NAMES[side]]


def _sides(given: Any, prompt: str | None) -> dict[str, Any]:
    """What is given of a clip, by modality."""
    if isinstance(given, Mapping):
        if given.keys() >= {"array", "sampling_rate"}:
            return {"audio": given}
        if given and given.keys() <= set(MODALITIES):
            return dict(given)
        raise ValueError(f"a clip is a path or has the keys {' and '.join(MODALITIES)}, got {sorted(given)}")
    return {prompt or ("video" if probe(given).has_video else "audio"): given}
