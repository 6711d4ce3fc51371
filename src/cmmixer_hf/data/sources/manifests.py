"""Tables that name clips → clips: one's own CSV or JSONL, and the published lists of public data sets.

The columns that [`read_manifest`] knows, by any of these names, each optional as long as a row names a file:

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
| audio_start, audio_end | seconds of the sound, where they are others |
"""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..batches import SourceError
from ..clips import SOUND_SUFFIXES, ClipSpec

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
TEXTS = ("clip_id", "track_id", "label", "labels", "split", "group")
NUMBERS: dict[str, Callable[[Any], float]] = {
    **dict.fromkeys(("start", "end", "audio_start", "audio_end"), float),
    "fold": lambda value: int(str(value)),
}
KNOWN = {*FILES, *TEXTS, *NUMBERS}


def read_manifest(manifest: Path, media: Path | None = None) -> list[ClipSpec]:
    """The clips that a CSV, TSV or JSONL file lists; relative paths start at `media`, else where the manifest lies.

    Raises:
        SourceError: a row names a file that is not there, or holds a value that cannot be; it names line and value.
    """
    folder = media or manifest.parent
    clips, faults = [], []
    for where, row in read_rows(manifest):
        try:
            clips.append(_clip(row, folder, where))
        except SourceError as fault:
            faults.append(fault)
    if faults:
        raise SourceError(f"{faults[0]}" + (f" ({len(faults) - 1} more such rows)" if len(faults) > 1 else ""))
    return clips


def unused_columns(manifest: Path) -> list[str]:
    """Columns of a manifest's first row that mean nothing here; a misspelt one is among them."""
    _, row = next(read_rows(manifest))
    return [name for name in row if name not in KNOWN]


def read_rows(table: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV, TSV or JSONL file under the names known here, each with "FILE, line N" for messages.

    Raises:
        SourceError: it has no rows, or one that cannot be read.
    """
    read = _json_rows if table.suffix.lower() in {".jsonl", ".ndjson"} else _csv_rows
    number = 0
    for number, row in read(table):
        where = f"{table}, line {number}"
        named = {ALIASES.get(name, name): value for name, value in row.items() if value not in (None, "")}
        yield where, named
    if not number:
        raise SourceError(f"{table} lists no clip: expected a row a clip under a line of column names")


def describe(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a row says about a clip besides its files, as fields of [`ClipSpec`]. Raises SourceError."""
    fields: dict[str, Any] = {name: str(row[name]) for name in ("split", "group") if name in row}
    for name, read in NUMBERS.items():
        if name in row:
            fields[name] = _number(row[name], read, f"{where}: {name} = {row[name]!r}")
    for first, last in (("start", "end"), ("audio_start", "audio_end")):
        begin, end = fields.get(first, 0.0), fields.get(last)
        if begin < 0 or (end is not None and end <= begin):
            raise SourceError(f"{where}: {first} = {begin} and {last} = {end} hold nothing: correct the row")
    labels = row.get("labels", [row["label"]] if "label" in row else [])
    labels = labels.split(";") if isinstance(labels, str) else labels
    return fields | {"labels": tuple(str(label).strip() for label in labels)}


def section_name(name: str, start: float | None, end: float | None) -> str:
    """A name for a part of a file.

    >>> section_name("film", 12.5, None), section_name("film", None, None)
    ('film@12.5-', 'film')
    """
    if start is None and end is None:
        return name
    return f"{name}@{start or 0:g}-{'' if end is None else f'{end:g}'}"


def _clip(row: Mapping[str, Any], folder: Path, where: str) -> ClipSpec:
    fields = describe(row, where) | _files(row, folder, where)
    picture, sound = fields.get("video"), fields.get("audio")
    main, track = picture or sound, sound or picture
    if main is None or track is None:
        raise SourceError(f"{where} names no file: fill one of the columns {', '.join(FILES)}")
    default = section_name(_relative(main, folder), fields.get("start"), fields.get("end"))
    clip_id, track_id = row.get("clip_id", default), row.get("track_id", _relative(track, folder))
    return ClipSpec(str(clip_id), str(track_id), **fields)


def _files(row: Mapping[str, Any], folder: Path, where: str) -> dict[str, str]:
    files = {}
    for column in FILES:
        if column not in row:
            continue
        path = folder / str(row[column])
        if not path.is_file():
            raise SourceError(f"{where}: {column} = {row[column]!r} is no file ({path} is not there): correct the row")
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
    except (TypeError, ValueError) as error:
        raise SourceError(f"{what} is not {'a whole' if read is NUMBERS['fold'] else 'a'} number") from error
    if not abs(number) < float("inf"):
        raise SourceError(f"{what} is not a finite number")
    return number


def _csv_rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, delimiter="\t" if table.suffix.lower() == ".tsv" else ",", skipinitialspace=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    count = f"{len(reader.fieldnames or [])} columns"
                    raise SourceError(f"{table}, line {reader.line_num}: expected {count}; quote values with commas")
                yield reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise SourceError(
                f"{table}, line {reader.line_num + 1} cannot be read ({error}): save it as UTF-8"
            ) from error


def _json_rows(table: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with table.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise SourceError(f"{table}, line {number} is not JSON ({error}): write one object a line") from error
            if not isinstance(row, dict):
                raise SourceError(f'{table}, line {number}: expected an object such as {{"video": …}}, got {line[:40]}')
            yield number, row
