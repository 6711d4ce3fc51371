"""Media files and words → segment embeddings, by any embedder, in batches, with what is wrong named."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from torch import Tensor

from ..data.prepared_clips import SourceError
from ..data.recipes import SILENCE_PEAK
from ..media.reading import MediaError, Sampling, probe, read_clip
from .embedders.embedder import Embedder
from .index_rows import check_embeddings
from .library import LibraryFile, sections
from .measuring import measure

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
    problems: list[MediaError] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """The problems in words."""
        return [str(problem) for problem in self.problems]


@dataclass(frozen=True)
class _Section:
    """A part of a file; `clip` are its frames or windows of sound once it is read, `error` is why it cannot be used."""

    file: LibraryFile
    start: float
    end: float
    is_whole: bool = True
    is_last: bool = True
    clip: np.ndarray | None = None
    error: MediaError | None = None


def embed_files(
    files: Iterable[LibraryFile],
    embedder: Embedder,
    cutting: Cutting,
    *,
    batch_size: int = 32,
    num_workers: int = 2,
    is_query: bool = False,
) -> Iterator[FileEmbeddings]:
    """Embed files, in their order. What cannot be used is named in a file's `errors`; nothing raises for it.

    Args:
        files: of a library, or of queries.
        embedder: what [`open_embedder`] opened.
        cutting: what of each file.
        batch_size: sections that the model embeds at once.
        num_workers: decoding threads.
        is_query: the files are asked with; some models tell that apart.

    Raises:
        SourceError: the embedder does not know this modality.
    """
    sampling = embedder.sampling(cutting.modality)
    with _pool(num_workers) as pool:
        # A section, not a file, is the unit: an hour of video in one piece would not fit into memory.
        parts = chain.from_iterable(_ahead(pool, lambda file: _cut(file, cutting), files, num_workers))
        read = _ahead(pool, lambda part: _read(part, sampling, cutting.modality), parts, 2 * batch_size)
        current: FileEmbeddings | None = None
        while batch := list(islice(read, batch_size)):
            clips = [section.clip for section in batch if section.clip is not None]
            embeds = iter(embedder.embed_batch(clips, cutting.modality, is_query=is_query) if clips else ())
            for section in batch:
                current = current or FileEmbeddings(section.file)
                _take(current, section, next(embeds) if section.clip is not None else None)
                if section.is_last:
                    yield current
                    current = None


def embed_file(path: str | Path, embedder: Embedder, cutting: Cutting, *, is_query: bool = True) -> FileEmbeddings:
    """Embed one file.

    Raises:
        MediaError: nothing of it can be used.
    """
    (done,) = embed_files([LibraryFile(str(path))], embedder, cutting, num_workers=1, is_query=is_query)
    if not done.embeds:
        raise done.problems[0]
    return done


def embed_texts(texts: Sequence[str], embedder: Embedder, target: str = "audio") -> Tensor:
    """Embed words that describe what is looked for, (texts, K, size), L2-normalised.

    Args:
        texts: one a query.
        embedder: what [`open_embedder`] opened.
        target: modality of what is searched, `"audio"` or `"video"`.

    Raises:
        SourceError: the model knows no words, or a text is empty.
    """
    for text in texts:
        if not text.strip():
            raise SourceError("a text to search with is empty: say in words what is looked for")
    embeds = embedder.embed_text(texts, target)
    check_embeddings(embeds, [f"the text {text!r}" for text in texts])
    return embeds


def _take(done: FileEmbeddings, section: "_Section", embeds: Tensor | None) -> None:
    """Keep a section's embeddings, or what is wrong with it; a NaN is as bad as what cannot be read."""
    if embeds is None:
        done.problems.append(section.error or MediaError(section.file.path, "was not read", "try it again"))
    elif not embeds.isfinite().all():
        reason = f"the model gives it an embedding with NaN or infinite values, from {section.start:.0f} s on"
        done.problems.append(MediaError(section.file.path, reason, "take another checkpoint, or float32"))
    else:
        done.places.append((section.start, section.end))
        done.embeds.append(embeds)


def _cut(file: LibraryFile, cutting: Cutting) -> list[_Section]:
    try:
        duration = probe(file.path).duration
    except MediaError as error:
        return [_Section(file, 0.0, 0.0, error=error)]
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
        return replace(section, error=error)
    if clip.waveforms is not None and np.abs(clip.waveforms).max() < SILENCE_PEAK:
        span = "throughout" if section.is_whole else f"from {section.start:.0f} to {section.end:.0f} s"
        silent = MediaError(section.file.path, f"silent {span}", "nothing to find it by")
        return replace(section, error=silent)
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
