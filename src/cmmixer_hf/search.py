"""Media files → an index → ranked files: the paper's inference (§3.4) as a product."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .data import SourceError
from .index import Match, RetrievalIndex
from .media import MediaError, probe
from .modeling_cmmixer import CMMixerForRetrieval
from .prepare import find_media
from .processing_cmmixer import CMMixerProcessor


@dataclass
class IndexSettings:
    """Embed a folder of tracks or clips and write an index of them."""

    library: str = field(metadata={"help": "folder of tracks (sound) or of clips (picture)"})
    index: str = field(metadata={"help": "folder to write the index to"})
    model: str = field(metadata={"help": "folder or Hub name of a CMMixerForRetrieval"})
    modality: str = field(default="audio", metadata={"help": "what to embed of each file: audio or video"})


@dataclass
class SearchSettings:
    """Rank the items of an index for one file."""

    query: str = field(metadata={"help": "video or audio file"})
    index: str = field(metadata={"help": "folder that `cmmixer index` wrote"})
    k: int = field(default=10, metadata={"help": "items to show"})
    json: bool = field(default=False, metadata={"help": "print JSON instead of a table"})


class Embedder:
    """A retrieval model and its processor: files in, segment embeddings (K, hidden) out."""

    def __init__(self, model: str):
        try:
            self.model = CMMixerForRetrieval.from_pretrained(model, use_safetensors=True).eval()
            self.processor = CMMixerProcessor.from_pretrained(model)
        except OSError as error:
            raise SourceError(
                f"{model} is neither a model's folder nor a Hub name that can be reached: {error}"
            ) from error

    @torch.inference_mode()
    def __call__(self, path: str | Path, modality: str | None = None) -> Tensor:
        """Embed a file's picture (`"video"`) or sound (`"audio"`); its picture where it has one, by default."""
        if modality is None:
            modality = "video" if probe(path).has_video else "audio"
        if modality == "video":
            return self.model.get_video_features(**self.processor(videos=path)).segment_embeds[0]
        return self.model.get_audio_features(**self.processor(audio=path)).segment_embeds[0]


def build_index(settings: IndexSettings) -> None:
    """Embed every usable file of a library and save the index; files that cannot be used are named."""
    files = find_media(settings.library)
    embed = Embedder(settings.model)
    items, embeds = [], []
    for path in tqdm(files, desc="embedding", unit="file"):
        try:
            embeds.append(embed(path, settings.modality))
        except MediaError as error:
            tqdm.write(f"left out: {error}")
            continue
        items.append({"title": path.stem, "path": str(path)})
    if not items:
        raise MediaError(settings.library, "none of its files is usable", "see the reasons above")
    RetrievalIndex.build(items, torch.stack(embeds), model=settings.model).save(settings.index)
    print(f"{len(items)} items in {settings.index}")


def search(settings: SearchSettings) -> None:
    """Print the best items for a query."""
    index = RetrievalIndex.load(settings.index)
    matches = index.search(Embedder(index.model)(settings.query), k=settings.k)
    print(_as_json(matches) if settings.json else _as_table(matches))


def _as_json(matches: Sequence[Match]) -> str:
    return json.dumps([match.item | {"score": round(match.score, 4)} for match in matches], indent=2)


def _as_table(matches: Sequence[Match]) -> str:
    lines = [f"{rank:>3}  {match.score:6.3f}  {match.item['title']}" for rank, match in enumerate(matches, 1)]
    return "\n".join(["  #   score  title", *lines])
