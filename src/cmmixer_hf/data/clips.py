"""What a clip is before it is decoded: which files, which part of them, and what is known about it."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from ..media.reading import MediaError

SOUND_SUFFIXES = frozenset({".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wav"})
MEDIA_SUFFIXES = SOUND_SUFFIXES | {
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv"),
}


@dataclass(frozen=True)
class Blob:
    """A media file that lies inside another one, or comes from afar: its bytes, and a name for messages."""

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
        group: more that must not be torn apart by a split, such as a performer or the recording a clip was cut from.
        start, end: seconds of the files to use; all of them by default.
        audio_start, audio_end: the same for `audio`, where its part is another one.
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
