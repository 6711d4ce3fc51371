"""The lists that public data sets are published as, over a folder of downloads → clips.

Downloads are never complete. What has no file is counted, not an error; only a list without any file is one.
"""

import csv
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..batches import SourceError
from ..clips import ClipSpec
from .folders import Downloads, media_fields
from .manifests import ALIASES, FILES, describe, read_manifest, read_rows

YOUTUBE_ID = re.compile(r"[\w-]{11}")
HEADINGS = {"id", "ytid", "youtube_id", "video_id"}
# AudioSet's names of classes, which lie beside its lists.
AUDIOSET_CLASSES = "class_labels_indices.csv"

Found = tuple[list[ClipSpec], list[str]]  # clips, and what to tell about them


def read_esc50(table: Path, media: Path | None = None) -> Found:
    """ESC-50, by its folder or its `meta/esc50.csv`: sound alone, one label, five folds that no recording crosses."""
    table = table / "meta" / "esc50.csv" if table.is_dir() else table
    beside = table.parent.parent / "audio"
    return read_manifest(table, media or (beside if beside.is_dir() else table.parent)), []


def read_audioset(table: Path, media: Path | None = None) -> Found:
    """AudioSet's CSV of sections with their classes, over files `YTID.*` (whole) or `YTID_START….*` (the section).

    START is in seconds or milliseconds. Labels are the names in `class_labels_indices.csv`, where that lies beside the
    table, else the identifiers; `eval` or `train` in the table's name is the split.
    """
    return _audioset(table, media, cut=False)


def read_audioset_cut(table: Path, media: Path | None = None) -> Found:
    """The same where `YTID.*` hold no more than the section, as in most copies that are passed around."""
    return _audioset(table, media, cut=True)


def read_youtube8m(table: Path, media: Path | None = None) -> Found:
    """A list of YouTube ids, one a line, each followed by a comma and labels with `;` between them, or by nothing."""
    downloads, rows = Downloads(media or table.parent), []
    for number, line in enumerate(table.read_text(encoding="utf-8-sig").splitlines(), 1):
        name, _, labels = line.strip().partition(",")
        if not name or (number == 1 and name.lower() in HEADINGS):
            continue
        if not YOUTUBE_ID.fullmatch(name):
            raise SourceError(f"{table}, line {number}: {name!r} is no YouTube id: expected 11 letters, digits, - or _")
        known = tuple(label.strip() for label in labels.split(";") if label.strip())
        files = media_fields(downloads.find(name), name)
        rows.append({"clip_id": name, "track_id": name, "labels": known} | files)
    return _with_files(rows, table, downloads)


def read_mgsv(table: Path, media: Path | None = None) -> Found:
    """MGSV-EC's CSVs: sections of short videos with the moments of the tracks that were set to them.

    Files are `VIDEO_ID.*`, and `MUSIC_ID.*` or what `music_path` calls them; the split is in the table's name.
    """
    downloads, rows = Downloads(media or table.parent), []
    split = next((name for name in ("train", "val", "test") if table.stem.startswith(name)), None)
    for where, row in read_rows(table):
        sections = {"start": "video_start", "end": "video_end", "audio_start": "music_start", "audio_end": "music_end"}
        label = {"label": row["video_category"]} if "video_category" in row else {}
        fields = describe({field: row[column] for field, column in sections.items() if column in row} | label, where)
        name, track = str(row["video_id"]), str(row["track_id"])
        picture = media_fields(downloads.find(name), name)
        sound = media_fields(_track(downloads, track, str(row.get("music_path", ""))), track)
        files = picture | sound if picture and sound else {}
        rows.append({"clip_id": name, "track_id": track, "split": split} | fields | files)
    return _with_files(rows, table, downloads)


def _track(downloads: Downloads, track: str, stated: str) -> list[Path]:
    more = downloads.find_more(track)
    return downloads.find(Path(stated).stem) or downloads.find(track) or [path for _, path in more]


def _audioset(table: Path, media: Path | None, *, cut: bool) -> Found:
    downloads, rows = Downloads(media or table.parent), []
    split = next((name for name in ("eval", "train") if name in table.stem), None)
    names = _class_names(table.parent / AUDIOSET_CLASSES)
    for where, (youtube_id, start, end, mids) in _audioset_rows(table):
        section = describe({"start": start, "end": end}, where)
        labels = tuple(names.get(mid, mid) for mid in mids.split(","))
        files = [path for rest, path in downloads.find_more(youtube_id, "_") if _starts_at(rest, section["start"])]
        if files or cut:
            section |= {"start": None, "end": None}
        named = {"clip_id": f"{youtube_id}_{start}", "track_id": youtube_id, "split": split}
        rows.append(
            named | section | {"labels": labels} | media_fields(files or downloads.find(youtube_id), youtube_id)
        )
    return _with_files(rows, table, downloads)


def _audioset_rows(table: Path) -> Iterable[tuple[str, list[str]]]:
    with table.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if not row or row[0].startswith("#") or row[0] == "YTID":
                continue
            if len(row) != 4:
                raise SourceError(f"{table}, line {number}: expected YTID, start, end and quoted labels, got {row}")
            yield f"{table}, line {number}", row


def _class_names(table: Path) -> dict[str, str]:
    if not table.exists():
        return {}
    with table.open(newline="", encoding="utf-8-sig") as file:
        return {row["mid"]: row["display_name"] for row in csv.DictReader(file)}


def _starts_at(rest: str, start: float) -> bool:
    """Whether what follows the id in a file's name begins with the start of the section.

    >>> [_starts_at(rest, 30.0) for rest in ("30", "30.000_40.000", "000030_000040", "30000", "40", "b")]
    [True, True, True, True, False, False]
    """
    number = re.match(r"\d+(\.\d+)?", rest)
    return number is not None and float(number.group()) in (start, start * 1000)


def _with_files(rows: Sequence[dict[str, Any]], table: Path, downloads: Downloads) -> Found:
    clips = [ClipSpec(**row) for row in rows if "video" in row or "audio" in row]
    missing = f"{len(rows) - len(clips)} of the {len(rows)} clips in {table} have no file in {downloads.folder}"
    if not clips:
        raise SourceError(f"{missing}: give the folder of the downloads with --media")
    return clips, [missing] if len(clips) < len(rows) else []


Reader = Callable[[Path, Path | None], Found]
READERS: Mapping[str, Reader] = {
    "esc50": read_esc50,
    "audioset": read_audioset,
    "audioset-cut": read_audioset_cut,
    "youtube8m": read_youtube8m,
    "mgsv": read_mgsv,
}


def recognise_table(first_line: str) -> str:
    """Which kind of table begins with this line: a published list, or somebody's own manifest."""
    columns = {column.strip(' #"') for column in first_line.strip().split(",")}
    if {"filename", "fold", "category"} <= columns:
        return "esc50"
    if {"video_id", "music_id", "music_start"} <= columns:
        return "mgsv"
    if first_line.startswith("# Segments csv") or {"YTID", "start_seconds"} <= columns:
        return "audioset"
    if columns & {*FILES, *ALIASES}:
        return "manifest"
    name = first_line.strip().partition(",")[0]
    return "youtube8m" if YOUTUBE_ID.fullmatch(name) or name.lower() in HEADINGS else "manifest"
