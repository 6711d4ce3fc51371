"""Folders of media files → clips, and the files of a folder of downloads by their ids."""

import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..clips import MEDIA_SUFFIXES, SOUND_SUFFIXES, ClipSpec, clip_of_file, unusable
from ..prepared_clips import SourceError

SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validate", "validation", "dev", "test", "eval"})
BRACKETED_ID = re.compile(r"\[([\w-]{11})\]$")  # yt-dlp's own names: "title [id].mp4"
# Folders of file servers, Windows and macOS beside a user's files; names that begin with a dot are ignored, too.
SYSTEM_FOLDERS = frozenset(
    {"@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "lost+found"}
)
KINDS_SHOWN = 8  # kinds of ignored files


@dataclass(frozen=True)
class FolderContent:
    """The media files under a folder, sorted, and counts of all other files by suffix or kind."""

    media: list[Path]
    others: Counter[str]

    def notes(self) -> list[str]:
        """A line on what was not taken.

        >>> FolderContent([], Counter({".txt": 3, "@eaDir/": 1})).notes()
        ['not taken: 3 .txt, 1 @eaDir/']
        """
        shown = [f"{count} {kind}" for kind, count in self.others.most_common(KINDS_SHOWN)]
        more = len(self.others) - len(shown)
        return [f"not taken: {', '.join(shown)}{f' and {more} more kinds' if more else ''}"] if shown else []


def read_content(folder: str | Path) -> FolderContent:
    """Look through a folder and what it links to, each folder once however many links lead there.

    Raises:
        SourceError: it is missing, or holds no media file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: give one that holds video files")
    content = FolderContent([], Counter())
    for entry in _entries(folder, content.others):
        if kind := _why_not(entry):
            content.others[kind] += 1
        else:
            content.media.append(Path(entry.path))
    if not content.media:
        seen = "".join(f"; {note}" for note in content.notes())
        raise SourceError(f"{folder} holds no media file ({', '.join(sorted(MEDIA_SUFFIXES))}){seen}: put some there")
    content.media.sort()
    return content


def find_media(folder: str | Path) -> list[Path]:
    """Media files under `folder`, sorted; refuses a folder that is missing or has none."""
    return read_content(folder).media


def is_visible(name: str) -> bool:
    """Whether a file or folder is the user's own, by its name: not a system's, a trash, or an unfinished download."""
    return not name.startswith(".") and name not in SYSTEM_FOLDERS


def read_classes(folder: Path, files: Sequence[Path]) -> list[ClipSpec]:
    """Kinetics' layout: `CLASS/clip.mp4` or `SPLIT/CLASS/clip.mp4`."""
    return [_in_class(clip, path.relative_to(folder)) for clip, path in zip(clips_of_files(files), files, strict=True)]


def _in_class(clip: ClipSpec, path: Path) -> ClipSpec:
    folders = path.parent.parts
    split = folders[0] if folders and folders[0] in SPLIT_FOLDERS else None
    if len(folders) <= (split is not None):
        return unusable(clip.path, "lies in no class's folder: expected CLASS/FILE or SPLIT/CLASS/FILE")
    return replace(clip, labels=(folders[-1],), split=split)


def _entries(folder: Path, others: Counter[str]) -> Iterator[os.DirEntry[str]]:
    """Every file under a folder; what lies behind links comes last, so that a file's own place is its name."""
    todo, links, seen = [os.fspath(folder)], list[str](), set[tuple[int, int]]()
    above = {_identity(parent) for parent in folder.resolve().parents}
    while todo or links:
        place = todo.pop() if todo else links.pop(0)
        if (identity := _identity(place)) in seen | above:
            continue
        seen.add(identity)
        try:
            inside = sorted(os.scandir(place), key=lambda entry: entry.name)
        except OSError:
            others["unreadable folders"] += 1
            continue
        for entry in inside:
            if not _is_folder(entry):
                yield entry
            elif is_visible(entry.name):
                (links if entry.is_symlink() else todo).append(entry.path)
            else:
                others[f"{entry.name}/"] += 1


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _why_not(entry: os.DirEntry[str]) -> str | None:
    """The kind of a file that is no media file, by its suffix."""
    suffix = os.path.splitext(entry.name)[1].lower()
    if not is_visible(entry.name):
        return "hidden files"
    if suffix not in MEDIA_SUFFIXES:
        return suffix or "without a suffix"
    return None if os.path.isfile(entry.path) else f"{suffix} that are no files"


def clips_of_files(files: Sequence[str | os.PathLike[str]]) -> list[ClipSpec]:
    """Whole files as clips. A clip's id is its file name, with as much of the path as makes it unique.

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


def media_fields(files: Sequence[Path], wanted: str) -> dict[str, Any]:
    """`video=` and `audio=` of a clip from the files found for it; one of each kind at most."""
    fields: dict[str, str] = {}
    for file in files:
        kind = "audio" if file.suffix.lower() in SOUND_SUFFIXES else "video"
        if kind in fields:
            raise SourceError(f"{file} and {fields[kind]} are both named {wanted}: keep one of them")
        fields[kind] = str(file)
    return fields


def _id_first(stem: str) -> str:
    match = BRACKETED_ID.search(stem)
    return match.group(1) if match else stem
