"""Media files and words → segment embeddings, by any embedder, in batches; problems are reported by file."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor

from ..data.prepared_clips import SourceError
from ..data.recipes import SILENCE_PEAK
from ..media.reading import FileSection, MediaError, Sampling, read_sections
from .embedders.embedder import Embedder
from .index_rows import check_embeddings
from .library import LibraryFile
from .measuring import measure
from .reading_ahead import ReadAhead


@dataclass(frozen=True)
class Cutting:
    """What to embed of a file: its sound or its picture, in sections as `media.cut_into_sections` cuts them.

    `measure` says what else to measure of it, as `how` of `measuring.measure`.
    """

    modality: str = "audio"
    section_seconds: float | None = None
    section_hop: float | None = None
    measure: str = "none"


@dataclass
class FileEmbeddings:
    """A file's usable sections in order, (start, end) with embeddings (K, size), and the problems of the others."""

    file: LibraryFile
    places: list[tuple[float, float]] = field(default_factory=list)
    embeds: list[Tensor] = field(default_factory=list)
    problems: list[MediaError] = field(default_factory=list)

    @property
    def errors(self) -> list[str]:
        """The problems in words."""
        return [str(problem) for problem in self.problems]


@dataclass(frozen=True)
class _Part:
    """A section that was read, with the frames or windows of sound to embed: None where no section can be used.

    The file is the `number`-th and has `count` sections, `settled` of which are done with this one: more than one where
    some before it cannot be used.
    """

    number: int
    of: FileEmbeddings
    place: tuple[float, float] = (0.0, 0.0)
    clip: np.ndarray | None = None
    count: int = 1
    settled: int = 0
    is_first: bool = False
    is_last: bool = False


def embed_files(
    files: Iterable[LibraryFile],
    embedder: Embedder,
    cutting: Cutting,
    *,
    batch_size: int = 32,
    num_workers: int = 2,
    is_query: bool = False,
    progress: Callable[[int, int], None] = lambda begun, settled: None,
) -> Iterator[FileEmbeddings]:
    """Embed files, in their order. A file's `errors` name what cannot be used of it; none is raised.

    Each file is read once, by one thread; only sections that wait for the model are in memory.

    Args:
        files: of a library, or of queries.
        embedder: what [`open_embedder`] opened.
        cutting: what of each file.
        batch_size: sections that the model embeds at once.
        num_workers: decoding threads.
        is_query: as in [`Embedder.embed_batch`].
        progress: called with the number of sections of a file that was opened (0 for none), and of sections now done.

    Raises:
        SourceError: the embedder does not know this modality.
    """
    sampling, finished, turn = embedder.sampling(cutting.modality), dict[int, FileEmbeddings](), 0
    threads = {"num_threads": num_workers, "room": batch_size}
    with closing(
        ReadAhead(lambda item: _read(*item, cutting, sampling), enumerate(files), **threads).results()
    ) as parts:
        while batch := list(islice(parts, batch_size)):
            clips = [part.clip for part in batch if part.clip is not None]
            embeds = iter(embedder.embed_batch(clips, cutting.modality, is_query=is_query) if clips else ())
            for part in batch:
                if part.clip is not None:
                    _take(part.of, part.place, next(embeds))
                progress(part.count if part.is_first else 0, part.settled)
                finished |= {part.number: part.of} if part.is_last else {}
            while done := finished.pop(turn, None):
                yield done
                turn += 1


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


def _take(done: FileEmbeddings, place: tuple[float, float], embeds: Tensor) -> None:
    """Keep a section's embeddings, unless they hold a NaN, which is a problem like an unreadable section."""
    if embeds.isfinite().all():
        done.places.append(place)
        done.embeds.append(embeds)
    else:
        reason = f"the model gives it an embedding with NaN or infinite values, from {place[0]:.0f} s on"
        done.problems.append(MediaError(done.file.path, reason, "take another checkpoint, or float32"))


def _read(number: int, file: LibraryFile, cutting: Cutting, sampling: Sampling) -> Iterator[_Part]:
    """A file's usable sections; at least one part comes of every file."""
    done = FileEmbeddings(replace(file, measured=file.measured | measure(file.path, cutting.modality, cutting.measure)))
    last, settled = _Part(number, done, is_first=True), 0
    try:
        for section in _sections(file.path, cutting, sampling):
            last = replace(last, count=section.count)
            clip = _usable(section, done)
            if clip is None:
                continue
            if last.clip is not None:
                yield last
            place, is_first, end = (section.start, section.end), last.clip is None, section.number + 1
            last, settled = _Part(number, done, place, clip, section.count, end - settled, is_first), end
    except MediaError as error:
        done.problems.append(error)
    yield replace(last, settled=last.settled + last.count - settled, is_last=True)


def _sections(path: str, cutting: Cutting, sampling: Sampling) -> Iterator[FileSection]:
    seconds, hop, is_video = cutting.section_seconds, cutting.section_hop, cutting.modality == "video"
    return read_sections(path, sampling, seconds=seconds, hop=hop, video=is_video, audio=not is_video)


def _usable(section: FileSection, done: FileEmbeddings) -> np.ndarray | None:
    """Frames or windows to embed; where there are none, the reason joins the file's problems."""
    clip, path = section.clip, done.file.path
    span = "throughout" if section.count == 1 else f"from {section.start:.0f} to {section.end:.0f} s"
    if clip is None:
        error = section.error or MediaError(path, "holds nothing", "leave it out")
        done.problems.append(MediaError(path, f"{error.reason} {span}", error.advice) if section.count > 1 else error)
    elif clip.waveforms is not None and np.abs(clip.waveforms).max() < SILENCE_PEAK:
        reason = f"silent {span}, in the windows that the model hears"
        done.problems.append(MediaError(path, reason, "nothing to find it by"))
    else:
        return clip.frames if clip.frames is not None else clip.waveforms
    return None
