"""Media files → segment embeddings: a retrieval model with its processor, and what tells one from another."""

import hashlib
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..data.recipes import SILENCE_PEAK
from ..loading import load_model, load_processor, read_saved
from ..media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from ..media.processing_cmmixer import clip_sampling
from ..media.reading import MediaError, Sampling, probe, read_clip
from .library import LibraryFile, sections
from .measuring import measure

MODALITIES = ("video", "audio")
# Values of each weight that the identity reads, evenly spread: training moves nearly all, and so many take no time.
VALUES_PER_WEIGHT = 4096


class Embedder:
    """A retrieval model and its processor: files in, segment embeddings (K, size) out.

    Args:
        model: folder or Hub name of a retriever of this package, saved with its processor.
        device: where it runs; the first GPU, or the CPU where there is none, by default.
        revision: branch, tag or commit of a Hub name; the newest by default.

    Raises:
        SourceError: there is no such model, or it is no retriever.
    """

    def __init__(self, model: str, device: torch.device | str | None = None, *, revision: str | None = None):
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        saved = read_saved(model, revision=revision)
        self.model: Any = load_model(saved).to(device)  # type: ignore[arg-type]
        self.processor = load_processor(saved)
        self.name = model
        self.identity = model_identity(self.model, self.extractor)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Segments and size of a clip's embeddings, (K, size): those of a clip of noise."""
        samples = round(self.extractor.window_seconds * self.extractor.sampling_rate)
        noise = np.random.default_rng(0).uniform(-1, 1, (self.extractor.num_frames, samples)).astype(np.float32)
        _, num_segments, size = self.embed_batch([noise], "audio").shape
        return num_segments, size

    @property
    def extractor(self) -> CMMixerFeatureExtractor:
        """What makes its stacks."""
        return self.processor.feature_extractor

    def __call__(self, path: str | Path, modality: str | None = None) -> Tensor:
        """Embed a file's picture (`"video"`) or sound (`"audio"`); its picture where it has one, by default.

        Raises:
            MediaError: the file cannot be used.
        """
        if modality is None:
            modality = "video" if probe(path).has_video else "audio"
        if modality == "video":
            return self._embed(self.processor(videos=path, device=self.model.device), modality)[0]
        return self._embed(self.processor(audio=path, device=self.model.device), modality)[0]

    def embed_batch(self, clips: Sequence[np.ndarray], modality: str) -> Tensor:
        """Embed decoded clips, frames (K, height, width, 3) or windows (K, samples): (clips, K, size) on the CPU."""
        videos, audio = (list(clips), None) if modality == "video" else (None, list(clips))
        return self._embed(self.extractor(videos=videos, audio=audio, device=self.model.device), modality)

    @torch.inference_mode()
    def _embed(self, stacks: Mapping[str, Any], modality: str) -> Tensor:
        features = self.model.get_video_features if modality == "video" else self.model.get_audio_features
        return features(**stacks).segment_embeds.float().cpu()


def model_identity(model: PreTrainedModel, extractor: CMMixerFeatureExtractor) -> str:
    """A digest of the model's configuration and weights and of the extractor's settings.

    It depends on what embeds, not on where it lies: a model that was moved, renamed or saved in other shards keeps its
    identity; one that was trained further, or fed with another window of sound, does not. Of each weight it reads its
    shape and [`VALUES_PER_WEIGHT`] values; of the settings, those that are not the default, so that a version of this
    package that knows more of them reads the same identity.
    """
    digest = hashlib.sha256()
    for settings, default, names in (
        (model.config.to_dict(), type(model.config)().to_dict(), type(model.config).__annotations__),
        (extractor.to_dict(), type(extractor)().to_dict(), extractor.to_dict()),
    ):
        changed = {name: settings[name] for name in sorted(names) if settings.get(name) != default.get(name)}
        digest.update(json.dumps(changed).encode())
    for name, weight in sorted(model.state_dict().items()):
        flat = weight.detach().flatten()
        sample = flat[:: -(-len(flat) // VALUES_PER_WEIGHT)].float().cpu()
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]


Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cutting:
    """What to embed of a file: its sound or its picture, in sections as `library.sections` cuts them.

    `measure` is what to find out of it beside, as `measuring.measure` takes it.
    """

    modality: str = "audio"
    section_seconds: float | None = None
    section_hop: float | None = None
    measure: str = "none"


@dataclass
class FileEmbeddings:
    """A file's usable sections in order, (start, end) with embeddings (K, size), and what is wrong with the others."""

    file: LibraryFile
    places: list[tuple[float, float]] = field(default_factory=list)
    embeds: list[Tensor] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Section:
    """A part of a file; `clip` are its frames or windows of sound once it is read, `error` is why it cannot be used."""

    file: LibraryFile
    start: float
    end: float
    is_whole: bool = True
    is_last: bool = True
    clip: np.ndarray | None = None
    error: str = ""


def embed_files(
    files: Iterable[LibraryFile], embedder: Embedder, cutting: Cutting, *, batch_size: int = 32, num_workers: int = 2
) -> Iterator[FileEmbeddings]:
    """Embed files, in their order. What cannot be used is named in a file's `errors`; nothing raises for it."""
    sampling = clip_sampling(embedder.extractor)
    with _pool(num_workers) as pool:
        # A section, not a file, is the unit: an hour of video in one piece would not fit into memory.
        parts = chain.from_iterable(_ahead(pool, lambda file: _cut(file, cutting), files, num_workers))
        read = _ahead(pool, lambda part: _read(part, sampling, cutting.modality), parts, 2 * batch_size)
        current: FileEmbeddings | None = None
        while batch := list(islice(read, batch_size)):
            clips = [section.clip for section in batch if section.clip is not None]
            embeds = iter(embedder.embed_batch(clips, cutting.modality) if clips else ())
            for section in batch:
                current = current or FileEmbeddings(section.file)
                if section.clip is None:
                    current.errors.append(section.error)
                else:
                    current.places.append((section.start, section.end))
                    current.embeds.append(next(embeds))
                if section.is_last:
                    yield current
                    current = None


def _cut(file: LibraryFile, cutting: Cutting) -> list[_Section]:
    try:
        duration = probe(file.path).duration
    except MediaError as error:
        return [_Section(file, 0.0, 0.0, error=str(error))]
    file = replace(file, measured=file.measured | measure(file.path, cutting.modality, cutting.measure))
    places = sections(duration, cutting.section_seconds, cutting.section_hop)
    return [_Section(file, *place, len(places) == 1, place == places[-1]) for place in places]


def _read(section: _Section, sampling: Sampling, modality: str) -> _Section:
    if section.error:
        return section
    place = {} if section.is_whole else {"start": section.start, "end": section.end}
    is_video = modality == "video"
    try:
        clip = read_clip(section.file.path, sampling, video=is_video, audio=not is_video, **place)
    except MediaError as error:
        return replace(section, error=str(error))
    if clip.waveforms is not None and np.abs(clip.waveforms).max() < SILENCE_PEAK:
        span = "throughout" if section.is_whole else f"from {section.start:.0f} to {section.end:.0f} s"
        return replace(section, error=f"{section.file.path}: silent {span}; nothing to find it by")
    return replace(section, clip=clip.frames if is_video else clip.waveforms)


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Iterator[Result]:
    """Results in order, with up to `count` of them worked on ahead: `pool.map`, but lazy."""
    waiting: deque[Future[Result]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


@contextmanager
def _pool(num_workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that do not finish what waits when somebody presses Ctrl-C."""
    pool = ThreadPoolExecutor(max(1, num_workers))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
