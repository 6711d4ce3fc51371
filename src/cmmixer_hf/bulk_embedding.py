"""Many files → embeddings of their sections: decoding threads read ahead while the model runs on batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from torch import Tensor

from .embedder import Embedder
from .library import LibraryFile, sections
from .media import MediaError, Sampling, probe, read_clip
from .processing_cmmixer import clip_sampling
from .recipes import SILENCE_PEAK

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cutting:
    """What to embed of a file: its sound or its picture, in sections as `library.sections` cuts them."""

    modality: str = "audio"
    section_seconds: float | None = None
    section_hop: float | None = None


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
