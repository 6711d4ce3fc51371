"""The lists that public data sets are published as, over a folder of downloads → clips.

Downloads are never complete. What has no file is counted, not an error; only a list without any file is one.
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..clips import ClipSpec, clip_or_fault, unusable
from ..prepared_clips import SourceError
from .folders import Downloads, media_fields
from .manifests import describe, names_files, read_manifest
from .tables import csv_records, read_lines, read_rows

YOUTUBE_ID = re.compile(r"[\w-]{11}")
NUMBER = re.compile(r"\d+(\.\d+)?")
# AudioSet's names of classes, which lie beside its lists.
AUDIOSET_CLASSES = "class_labels_indices.csv"
SECONDS = 10.0  # of VGGSound's clips

ClipsAndNotes = tuple[list[ClipSpec], list[str]]  # clips, and notes on them for the user
Records = Sequence[Sequence[str]]


def read_esc50(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """ESC-50, by its folder or its `meta/esc50.csv`: sound alone, one label, five folds that no recording crosses."""
    table = table / "meta" / "esc50.csv" if table.is_dir() else table
    beside = table.parent.parent / "audio"
    return read_manifest(table, media or (beside if beside.is_dir() else table.parent)), []


def read_audioset(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """AudioSet's CSV of sections with their classes, over files `YTID.*` (whole) or `YTID_START….*` (the section).

    START is in seconds or milliseconds. Labels are the names in `class_labels_indices.csv`, where that lies beside the
    table, else the identifiers; `eval` or `train` in the table's name is the split.
    """
    return _read_audioset(table, media, cut=False)


def read_audioset_cut(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """The same where `YTID.*` hold no more than the section, as in most copies that are passed around."""
    return _read_audioset(table, media, cut=True)


def read_vggsound(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """VGGSound's CSV of ten seconds each with one class and its split, over files as AudioSet's."""
    downloads = Downloads(media or table.parent)

    def clip(name: str, start: str, label: str, last: str, *more: str) -> ClipSpec | None:
        words = [label, last, *more]  # a label with commas is several cells, where nobody quoted it
        split = words.pop()
        begin = _seconds(start)
        return _section(downloads, name, start, str(begin + SECONDS), (", ".join(words),), split.strip())

    return _records_to_clips(table, downloads, clip)


def read_kinetics(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """Kinetics' CSV of sections with one class and its split, over files as AudioSet's."""
    downloads, names = Downloads(media or table.parent), ("youtube_id", "time_start", "time_end", "label", "split")

    def clip(values: Mapping[str, str]) -> ClipSpec | None:
        name, start, end, label, split = (values.get(name, "") for name in names)
        return _section(downloads, name, start, end, (label,) if label else (), split or None)

    return _rows_to_clips(table, downloads, names, clip)


def read_youtube8m(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """A list of YouTube ids, one a line, each followed by a comma and labels with `;` between them, or by nothing."""
    downloads = Downloads(media or table.parent)

    def clip(name: str, labels: str = "") -> ClipSpec | None:
        known = tuple(label.strip() for label in labels.split(";") if label.strip())
        files = media_fields(downloads.find(_youtube_id(name)), name)
        return ClipSpec(name, name, labels=known, **files) if files else None

    return _records_to_clips(table, downloads, clip)


def read_mgsv(table: Path, media: Path | None = None) -> ClipsAndNotes:
    """MGSV-EC's CSVs: sections of short videos with the moments of the tracks that were set to them.

    Files are `VIDEO_ID.*`, and `MUSIC_ID.*` or what `music_path` calls them; the split is in the table's name.
    """
    downloads = Downloads(media or table.parent)
    split = next((name for name in ("train", "val", "test") if table.stem.startswith(name)), None)
    sections = {"start": "video_start", "end": "video_end", "audio_start": "music_start", "audio_end": "music_end"}

    def clip(values: Mapping[str, str]) -> ClipSpec | None:
        fields = {
            field: values[column]
            for field, column in (sections | {"label": "video_category"}).items()
            if column in values
        }
        name, track = values["video_id"], values["music_id"]
        picture = media_fields(downloads.find(name), name)
        sound = media_fields(_track(downloads, track, values.get("music_path", "")), track)
        about = describe(fields)
        return ClipSpec(name, track, split=split, **about, **picture | sound) if picture and sound else None

    return _rows_to_clips(table, downloads, MGSV_COLUMNS, clip)


MGSV_COLUMNS = (
    *("video_id", "music_id", "music_path", "video_category"),
    *("video_start", "video_end", "music_start", "music_end"),
)


@dataclass(frozen=True)
class PublishedList:
    """A kind of list: what reads it, whether first records are of this kind, and an example of one."""

    read: Callable[[Path, Path | None], ClipsAndNotes]
    fits: Callable[[Records], bool]
    example: str


def recognise_list(records: Records) -> str | None:
    """The kind of published list that begins with these records; None where not one fits for sure."""
    return next((kind for kind, listed in LISTS.items() if records and listed.fits(records)), None)


def _has_columns(*names: str) -> Callable[[Records], bool]:
    return lambda records: {*names} <= {cell.strip(' #"').lower() for cell in records[0]}


def _is_audioset(records: Records) -> bool:
    if records[0][0].startswith("# Segments csv") or _has_columns("ytid", "start_seconds")(records):
        return True
    return all(_begins_section(record) and len(record) == 4 and NUMBER.fullmatch(record[2]) for record in records)


def _is_vggsound(records: Records) -> bool:
    return all(_begins_section(record) and len(record) >= 4 and record[-1] in ("train", "test") for record in records)


def _is_youtube8m(records: Records) -> bool:
    if names_files(cell.strip().lower() for cell in records[0]):
        return False
    return all(len(record) <= 2 and (YOUTUBE_ID.fullmatch(record[0]) or _is_heading(record)) for record in records)


def _begins_section(record: Sequence[str]) -> bool:
    return len(record) > 1 and bool(YOUTUBE_ID.fullmatch(record[0]) and NUMBER.fullmatch(record[1]))


LISTS: Mapping[str, PublishedList] = {
    "esc50": PublishedList(
        read_esc50, _has_columns("filename", "fold", "category"), "filename,fold,target,category,esc10,src_file,take"
    ),
    "mgsv": PublishedList(
        read_mgsv, _has_columns("video_id", "music_id", "music_start"), "video_id,music_id,video_start,video_end,…"
    ),
    "kinetics": PublishedList(
        read_kinetics, _has_columns("youtube_id", "time_start", "label"), "label,youtube_id,time_start,time_end,split"
    ),
    "vggsound": PublishedList(read_vggsound, _is_vggsound, "---g-f_I2yQ,1,people marching,test"),
    "audioset": PublishedList(read_audioset, _is_audioset, '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"'),
    "audioset-cut": PublishedList(read_audioset_cut, lambda records: False, "the same, over files that are cut"),
    "youtube8m": PublishedList(read_youtube8m, _is_youtube8m, "dQw4w9WgXcQ,Game;Music"),
}


def _read_audioset(table: Path, media: Path | None, *, cut: bool) -> ClipsAndNotes:
    downloads, named = Downloads(media or table.parent), _class_names(table.parent / AUDIOSET_CLASSES)
    split = next((name for name in ("eval", "train") if name in table.stem), None)

    def clip(name: str, start: str, end: str, classes: str) -> ClipSpec | None:
        labels = tuple(named.get(mid, mid) for mid in classes.split(","))
        return _section(downloads, name, start, end, labels, split, cut=cut)

    return _records_to_clips(table, downloads, clip)


def _section(
    downloads: Downloads,
    name: str,
    start: str,
    end: str,
    labels: tuple[str, ...],
    split: str | None,
    *,
    cut: bool = False,
) -> ClipSpec | None:
    """A section of a YouTube video, from a file of its own or the whole one; None where neither is there."""
    described = describe({"start": start, "end": end}) | {"labels": labels, "split": split}
    files = [path for rest, path in downloads.find_more(_youtube_id(name), "_") if _starts_at(rest, described["start"])]
    if files or cut:
        described |= {"start": None, "end": None}
    media = media_fields(files or downloads.find(name), name)
    return ClipSpec(f"{name}_{start}", name, **described, **media) if media else None


def _records_to_clips(table: Path, downloads: Downloads, make: Callable[..., ClipSpec | None]) -> ClipsAndNotes:
    """Clips of a list without column names; `make` gets a record's cells."""
    clips: list[ClipSpec | None] = []
    for place, (number, cells, error) in enumerate(csv_records(read_lines(table))):
        if cells and (cells[0].startswith("#") or (place == 0 and _is_heading(cells))):
            continue
        where = f"{table}, line {number}"
        clips.append(unusable(where, error) if error else clip_or_fault(where, _with_cells, make, cells))
    return _present(clips, table, downloads)


def _with_cells(make: Callable[..., ClipSpec | None], cells: Sequence[str]) -> ClipSpec | None:
    try:
        return make(*cells)
    except TypeError as error:
        raise SourceError(f"it has {len(cells)} cells, {','.join(cells):.80}; give it as many as the others") from error


def _rows_to_clips(
    table: Path, downloads: Downloads, columns: Sequence[str], make: Callable[[Mapping[str, str]], ClipSpec | None]
) -> ClipsAndNotes:
    """Clips of a list with column names; `make` gets a row's values."""
    clips = [
        unusable(row.where, row.error) if row.error else clip_or_fault(row.where, make, row.values)
        for row in read_rows(table, columns)
    ]
    return _present(clips, table, downloads)


def _present(listed: Sequence[ClipSpec | None], table: Path, downloads: Downloads) -> ClipsAndNotes:
    """The clips that have files, and how many have none."""
    clips = [clip for clip in listed if clip is not None]
    missing = f"{len(listed) - len(clips)} of the {len(listed)} clips in {table} have no file in {downloads.folder}"
    if not clips:
        raise SourceError(f"{missing}: give the folder of the downloads with --media")
    return clips, [missing] if len(clips) < len(listed) else []


def _is_heading(cells: Sequence[str]) -> bool:
    return cells[0].strip("# ").lower() in ("id", "ytid", "youtube_id", "video_id")


def _youtube_id(name: str) -> str:
    if not YOUTUBE_ID.fullmatch(name):
        raise SourceError(f"{name!r:.40} is no YouTube id: expected 11 letters, digits, - or _")
    return name


def _seconds(text: str) -> float:
    return float(describe({"start": text})["start"])


def _track(downloads: Downloads, track: str, stated: str) -> list[Path]:
    more = downloads.find_more(track)
    return downloads.find(Path(stated).stem) or downloads.find(track) or [path for _, path in more]


def _class_names(table: Path) -> dict[str, str]:
    if not table.exists():
        return {}
    return {row["mid"]: row["display_name"] for row in csv.DictReader(read_lines(table))}


def _starts_at(rest: str, start: float) -> bool:
    """Whether what follows the id in a file's name begins with the start of the section.

    >>> [_starts_at(rest, 30.0) for rest in ("30", "30.000_40.000", "000030_000040", "30000", "40", "b")]
    [True, True, True, True, False, False]
    """
    number = NUMBER.match(rest)
    return number is not None and float(number.group()) in (start, start * 1000)
