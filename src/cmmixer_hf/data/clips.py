"""What a clip is before it is decoded: which files, which part of them, and what is known about it."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, cast

from ..files import readable
from ..media.reading import MediaError

# Suffixes of the formats that `media/opening.py` reads.
SOUND_SUFFIXES = frozenset(
    (
        *(".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".flac", ".ogg", ".oga", ".opus"),
        *(".wav", ".aif", ".aiff", ".aifc", ".mka", ".wma"),
    )
)
MEDIA_SUFFIXES = SOUND_SUFFIXES | {
    *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mj2", ".f4v", ".flv", ".mkv", ".webm", ".ogv"),
    *(".avi", ".divx", ".wmv", ".asf", ".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts", ".m2t"),
}
LARGEST_FOLD = 2**31 - 1  # of a shard's column
Made = TypeVar("Made")


@dataclass(frozen=True)
class Blob:
    """A media file that is part of another file or was fetched: its bytes, and a name for messages."""

    name: str
    data: bytes = field(repr=False)


Media = str | Blob
Section = tuple[Media, float | None, float | None]  # a file, and the seconds where the part of it starts and ends


@dataclass(frozen=True)
class ClipSpec:
    """One clip of a source, not yet decoded: every kind of source becomes these.

    Args:
        clip_id: unique in its source.
        track_id: clips with equal ones have the same music: each is a right answer for the other, and no two of them
            may be in different splits.
        video: file of the picture; None for sound alone.
        audio: file of the sound, where it is not the video's own.
        labels: names of classes; several for a multi-label set.
        split, fold: part of the set it belongs to, by name or by number.
        group: clips of one group stay in one split, such as those of a performer or cut from one recording.
        start, end: seconds of the files to use; all of them by default.
        audio_start, audio_end: the same for `audio`, where they differ.
        error: why a row of a source is no clip; it keeps its place, so that it is counted and named.
    """

    clip_id: str
    track_id: str
    video: Media | None = None
    audio: Media | None = None
    labels: tuple[str, ...] = ()
    split: str | None = None
    fold: int | None = None
    group: str | None = None
    start: float | None = None
    end: float | None = None
    audio_start: float | None = None
    audio_end: float | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        if self.video is None and self.audio is None:
            raise ValueError(f"clip {self.clip_id!r} has no file: give video, audio or both")

    @property
    def picture(self) -> Section:
        """Where its frames come from."""
        return cast(Media, self.video or self.audio), self.start, self.end

    @property
    def sound(self) -> Section:
        """Where its sound comes from."""
        media = cast(Media, self.audio or self.video)
        if self.audio_start is None and self.audio_end is None:
            return media, self.start, self.end
        return media, self.audio_start, self.audio_end

    @property
    def path(self) -> str:
        """The file that messages name."""
        return name_of(self.picture[0])


def clip_of_file(path: str | os.PathLike[str], clip_id: str | None = None) -> ClipSpec:
    """A whole file as a clip; its own name is the clip's and the track's.

    >>> clip = clip_of_file("music/song.mp3")
    >>> clip.clip_id, clip.track_id, clip.audio
    ('song', 'song', 'music/song.mp3')
    """
    clip_id = Path(path).stem if clip_id is None else clip_id
    if Path(path).suffix.lower() in SOUND_SUFFIXES:
        return ClipSpec(clip_id, clip_id, audio=os.fspath(path))
    return ClipSpec(clip_id, clip_id, video=os.fspath(path))


def unusable(where: str, reason: str) -> ClipSpec:
    """A placeholder for a row that is not a valid clip.

    >>> unusable("list.csv, line 7", "names no file").error
    'list.csv, line 7: names no file'
    """
    return ClipSpec(where, where, video=where, error=f"{where}: {reason:.1000}")


def clip_or_fault(where: str, make: Callable[..., Made], *arguments: Any) -> Made | ClipSpec:
    """What `make` makes of a row's values; an [`unusable`] clip where they cannot be used."""
    try:
        return make(*arguments)
    except (ValueError, TypeError, ArithmeticError, RecursionError, OSError) as error:
        return unusable(where, str(error))


def named_apart(clips: Iterable[ClipSpec]) -> Iterator[ClipSpec]:
    """The same clips; one whose id an earlier clip has cannot be used."""
    seen = set[str]()
    for clip in clips:
        twice = clip.clip_id in seen and clip.error is None
        seen.add(clip.clip_id)
        yield unusable(clip.path, f"another clip is called {clip.clip_id!r}; give each a clip_id") if twice else clip


def fault(clip: ClipSpec) -> str | None:
    """Why a clip cannot be a row of a shard, whatever its files hold; None where it can."""
    if clip.error is not None:
        return clip.error
    texts = (clip.clip_id, clip.track_id, clip.path, name_of(clip.sound[0]), clip.split or "", *clip.labels)
    if wrong := [text for text in texts if readable(text) != text]:
        return f"{clip.path}: {wrong[0]!r:.80} is no text in UTF-8; rename it"
    if clip.fold is not None and abs(clip.fold) > LARGEST_FOLD:
        return f"{clip.path}: fold = {clip.fold!r:.40} is larger than {LARGEST_FOLD}; number the folds from 1 on"
    return None


def name_of(media: Media) -> str:
    """Path or description for a message."""
    return media.name if isinstance(media, Blob) else media


@contextmanager
def local_file(media: Media) -> Iterator[str]:
    """A path from which `media` can be read; a MediaError about it names where the bytes came from."""
    if isinstance(media, str):
        yield media
        return
    with tempfile.TemporaryDirectory(prefix="cmmixer-") as folder:
        path = Path(folder) / f"clip{Path(media.name).suffix}"
        path.write_bytes(media.data)
        try:
            yield str(path)
        except MediaError as error:
            raise MediaError(media.name, error.reason, error.advice) from error
