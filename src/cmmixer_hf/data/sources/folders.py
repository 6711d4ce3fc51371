"""Folders of media files → clips, and the files of a folder of downloads by their ids."""

import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from ..batches import SourceError
from ..clips import MEDIA_SUFFIXES, SOUND_SUFFIXES, ClipSpec, clip_of_file

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validate", "validation", "dev", "test", "eval"})
BRACKETED_ID = re.compile(r"\[([\w-]{11})\]$")  # yt-dlp's own names: "title [id].mp4"


def find_media(folder: str | Path) -> list[Path]:
    """Media files under `folder`, sorted; refuses a folder that is missing or has none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: give one that holds video files")
    files = sorted(path for path in folder.rglob("*") if _is_media(path))
    if not files:
        raise SourceError(f"{folder} holds no media file ({', '.join(sorted(MEDIA_SUFFIXES))}): put some there")
    return files


def read_folder(folder: Path) -> list[ClipSpec]:
    """Every media file under a folder is a clip."""
    return clips_of_files(find_media(folder))


def read_classes(folder: Path) -> list[ClipSpec]:
    """Kinetics' layout: `CLASS/clip.mp4` or `SPLIT/CLASS/clip.mp4`."""
    files = find_media(folder)
    return [_in_class(clip, path.relative_to(folder)) for clip, path in zip(clips_of_files(files), files, strict=True)]


def _in_class(clip: ClipSpec, path: Path) -> ClipSpec:
    folders = path.parent.parts
    split = folders[0] if folders and folders[0] in SPLIT_FOLDERS else None
    if len(folders) <= (split is not None):
        raise SourceError(f"{clip.path} lies in no class's folder: expected CLASS/FILE or SPLIT/CLASS/FILE")
    return replace(clip, labels=(folders[-1],), split=split)


def clips_of_files(files: Sequence[str | os.PathLike[str]]) -> list[ClipSpec]:
    """Whole files as clips. A clip is called as its file, with as much of the path as tells it from all others.

    >>> [clip.clip_id for clip in clips_of_files(["a/1.mp4", "a/2.mp4"])]
    ['1', '2']
    >>> [clip.clip_id for clip in clips_of_files(["a/1.mp4", "b/1.mp4", "b/1.mp3"])]
    ['a/1', 'b/1.mp4', 'b/1.mp3']
    """
    paths = [Path(file) for file in files]
    base = os.path.commonpath([path.parent.absolute() for path in paths]) if paths else ""
    relative = [path.absolute().relative_to(base) for path in paths]
    names = [path.with_suffix("").as_posix() for path in relative]
    occurrences = Counter(names)
    ids = [name if occurrences[name] == 1 else path.as_posix() for name, path in zip(names, relative, strict=True)]
    return [clip_of_file(file, clip_id) for file, clip_id in zip(files, ids, strict=True)]


class Downloads:
    """The media files under a folder by what their names start with, as `YTID.mp4`, `YTID_30.mp4`, `title [YTID].webm`.

    Raises:
        SourceError: the folder is missing or has no media file.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._named = sorted((_id_first(path.stem), path) for path in find_media(folder))

    def find(self, wanted: str) -> list[Path]:
        """The files called exactly `wanted`."""
        return [path for stem, path in self._starting_with(wanted) if stem == wanted]

    def find_more(self, wanted: str, separators: str = "_+") -> list[tuple[str, Path]]:
        """The files called `wanted`, a separator and more, each with what follows the separator."""
        longer = [pair for separator in separators for pair in self._starting_with(wanted + separator)]
        return [(stem[len(wanted) + 1 :], path) for stem, path in longer]

    def _starting_with(self, prefix: str) -> Iterable[tuple[str, Path]]:
        place = bisect_left(self._named, prefix, key=lambda pair: pair[0])
        while place < len(self._named) and self._named[place][0].startswith(prefix):
            yield self._named[place]
            place += 1


def media_fields(files: Sequence[Path], wanted: str) -> dict[str, str]:
    """`video=` and `audio=` of a clip from the files found for it; one of each kind at most."""
    fields: dict[str, str] = {}
    for file in files:
        kind = "audio" if file.suffix.lower() in SOUND_SUFFIXES else "video"
        if kind in fields:
            raise SourceError(f"{file} and {fields[kind]} are both named {wanted}: keep one of them")
        fields[kind] = str(file)
    return fields


def _is_media(path: Path) -> bool:
    # Names that start with a dot are what macOS leaves beside real files, and downloads that are not finished.
    return path.suffix.lower() in MEDIA_SUFFIXES and not path.name.startswith(".") and path.is_file()


def _id_first(stem: str) -> str:
    found = BRACKETED_ID.search(stem)
    return found.group(1) if found else stem
