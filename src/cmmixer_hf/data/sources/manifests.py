"""Tables that name clips → clips: one's own CSV or JSONL, and the published lists of public data sets.

The columns that [`read_manifest`] knows, by any of these names and in any case, each optional as long as a row
names a file:

| column | what it is |
|---|---|
| video, video_path | file of the picture, and of the sound where `audio` is empty |
| audio, audio_path, music | file of the sound |
| file, file_name, filename, path | either, by its suffix (what `datasets` calls `metadata.csv` has `file_name`) |
| clip_id, id | the clip's own name; its file's by default |
| track_id, music_id, track | the music's name; its file's by default |
| label, category | one class |
| labels | several: a list in JSONL, separated by `;` in CSV |
| split, fold, group | as in [`ClipSpec`] |
| start, end | seconds of the files to use |
| audio_start, audio_end | seconds of the sound, where they differ |
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ..clips import SOUND_SUFFIXES, ClipSpec, clip_or_fault, unusable
from ..prepared_clips import SourceError
from .tables import column_names, read_rows

ALIASES = {
    "video_path": "video",
    "audio_path": "audio",
    "music": "audio",
    "file_name": "file",
    "filename": "file",
    "path": "file",
    "id": "clip_id",
    "music_id": "track_id",
    "track": "track_id",
    "category": "label",
    "src_file": "group",  # ESC-50: the recording that a clip was cut from
}
FILES = ("video", "audio", "file")
TEXT_COLUMNS = ("clip_id", "track_id", "label", "labels", "split", "group")


def _whole(value: Any) -> int:
    number = float(value)  # pandas writes 1.0 in a column where a value is missing
    if number != int(number):
        raise ValueError
    return int(number)


NUMBERS: dict[str, Callable[[Any], float]] = {
    **dict.fromkeys(("start", "end", "audio_start", "audio_end"), float),
    "fold": _whole,
}
KNOWN = {*FILES, *TEXT_COLUMNS, *NUMBERS}
COLUMN_NAMES = KNOWN | ALIASES.keys()


def read_manifest(manifest: Path, media: Path | None = None) -> list[ClipSpec]:
    """The clips that a CSV, TSV or JSONL file lists; relative paths start at `media`, else where the manifest lies.

    A row that cannot be used is a clip with an `error`, such as that its file is not there.

    Raises:
        SourceError: no column names files, or there are no rows.
    """
    folder = media or manifest.parent
    if not names_files(columns := column_names(manifest, COLUMN_NAMES)):
        raise SourceError(f"{manifest} has no column {', '.join(FILES)}, but {', '.join(columns)[:200]}: rename one")
    return [
        unusable(row.where, row.error)
        if row.error
        else clip_or_fault(
            row.where, _clip, {ALIASES.get(name, name): value for name, value in row.values.items()}, folder
        )
        for row in read_rows(manifest, COLUMN_NAMES)
    ]


def names_files(columns: Iterable[str]) -> bool:
    """Whether one of a table's columns names files; true for a table without columns, which its reader will report."""
    columns = list(columns)
    return not columns or any(ALIASES.get(name, name) in FILES for name in columns)


def unused_columns(manifest: Path) -> list[str]:
    """Columns of a manifest that are ignored, such as misspelt ones."""
    return [name for name in column_names(manifest, COLUMN_NAMES) if name not in COLUMN_NAMES]


def describe(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says about a clip besides its files, as fields of [`ClipSpec`]. Raises SourceError."""
    fields: dict[str, Any] = {name: str(row[name]) for name in ("split", "group") if name in row}
    for name, read in NUMBERS.items():
        if name in row:
            fields[name] = _number(row[name], read, f"{name} = {row[name]!r:.60}")
    for first, last in (("start", "end"), ("audio_start", "audio_end")):
        begin, end = fields.get(first, 0.0), fields.get(last)
        if begin < 0 or (end is not None and end <= begin):
            raise SourceError(f"{first} = {begin} and {last} = {end} hold nothing: correct the row")
    return fields | {"labels": _labels(row.get("labels", row.get("label")), several="labels" in row)}


def _labels(value: Any, *, several: bool) -> tuple[str, ...]:
    """Names of classes; a number is a name too."""
    if value is None:
        return ()
    if several and isinstance(value, str):
        value = value.split(";")
    return tuple(str(label).strip() for label in (value if isinstance(value, (list, tuple)) else [value]))


def section_name(name: str, start: float | None, end: float | None) -> str:
    """A name for a part of a file.

    >>> section_name("film", 12.5, None), section_name("film", None, None)
    ('film@12.5-', 'film')
    """
    if start is None and end is None:
        return name
    return f"{name}@{start or 0:g}-{'' if end is None else f'{end:g}'}"


def _clip(row: Mapping[str, Any], folder: Path) -> ClipSpec:
    fields = describe(row) | _files(row, folder)
    picture, sound = fields.get("video"), fields.get("audio")
    main, track = picture or sound, sound or picture
    if main is None or track is None:
        raise SourceError(f"names no file: fill one of the columns {', '.join(FILES)}")
    default = section_name(_relative(main, folder), fields.get("start"), fields.get("end"))
    clip_id, track_id = row.get("clip_id", default), row.get("track_id", _relative(track, folder))
    return ClipSpec(str(clip_id), str(track_id), **fields)


def _files(row: Mapping[str, Any], folder: Path) -> dict[str, str]:
    files = {}
    for column in FILES:
        if column not in row:
            continue
        path = folder / str(row[column])
        if not path.is_file():
            raise SourceError(f"{column} = {row[column]!r:.200} is no file ({path} is not there): correct the row")
        sound = column == "audio" or (column == "file" and path.suffix.lower() in SOUND_SUFFIXES)
        files["audio" if sound else "video"] = str(path)
    return files


def _relative(path: str, folder: Path) -> str:
    """A file's name without its suffix, from the folder on where it lies in there."""
    whole = Path(path)
    return (whole.relative_to(folder) if whole.is_relative_to(folder) else whole).with_suffix("").as_posix()


def _number(value: Any, read: Callable[[Any], float], what: str) -> float:
    try:
        number = read(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise SourceError(f"{what} is not {'a whole' if read is _whole else 'a'} number") from error
    if not abs(number) < float("inf"):
        raise SourceError(f"{what} is not a finite number")
    return number
