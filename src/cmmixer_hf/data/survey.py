"""What a source holds, from its files' headers alone: a table to check before days of decoding."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..files import aligned, readable
from ..media.reading import MediaError, MediaInfo, probe
from ..progress import Progress
from .clips import ClipSpec, Media, fault, local_file
from .workers import map_in_processes

SURVEY_COLUMNS = ("split", "clips", "tracks", "hours", "picture", "sound", "no picture", "no sound", "unreadable")
TOTAL = "all"


@dataclass(frozen=True)
class ClipHeaders:
    """What the headers of one clip's files say: seconds, names of codecs, and what is wrong with them."""

    split: str | None
    track_id: str
    seconds: float = 0.0
    picture: str | None = None
    sound: str | None = None
    error: str | None = None


def look(clip: ClipSpec) -> ClipHeaders:
    """Read the headers of a clip's files. Never raises for a bad file."""
    if (reason := fault(clip)) is not None:
        return ClipHeaders(None, readable(clip.track_id), error=reason)
    try:
        first = _probe(clip.picture[0])
        sound = _probe(clip.sound[0]) if clip.sound[0] != clip.picture[0] else first
    except MediaError as error:
        return ClipHeaders(clip.split, clip.track_id, error=str(error))
    end = first.duration if clip.end is None else min(clip.end, first.duration)
    seconds = max(0.0, end - (clip.start or 0.0))
    return ClipHeaders(clip.split, clip.track_id, seconds, first.video_codec, sound.audio_codec)


def survey(clips: Iterable[ClipSpec], *, num_workers: int = 0, progress: bool = True) -> str:
    """The table of a source: a line a split and one for all; and how many tracks leak from one split into another."""
    total = len(clips) if isinstance(clips, Sequence) else None
    headers = map_in_processes(look, clips, num_workers=num_workers, died=_died)
    findings = list(Progress(headers, total=total, desc="looking", unit="clip", disable=not progress))
    by_split = defaultdict(list)
    for finding in findings:
        by_split[finding.split or "none"].append(finding)
    lines = [_line(split, by_split[split]) for split in sorted(by_split)] if set(by_split) != {"none"} else []
    return "\n".join(
        [aligned([SURVEY_COLUMNS, *lines, _line(TOTAL, findings)], "<" * len(SURVEY_COLUMNS)), *leaks(findings)]
    )


def leaks(clips: Iterable[ClipSpec | ClipHeaders]) -> list[str]:
    """A warning where a track occurs in several splits: a model could then have memorised the answers of a test."""
    splits = defaultdict(set)
    for clip in clips:
        splits[clip.track_id].add(clip.split)
    leaking = [track for track, places in splits.items() if len(places) > 1]
    return [f"{len(leaking)} tracks occur in more than one split, such as {readable(leaking[0])}"] if leaking else []


def _probe(media: Media) -> MediaInfo:
    with local_file(media) as path:
        return probe(path)


def _died(clip: ClipSpec, reason: str) -> ClipHeaders:
    return ClipHeaders(clip.split, clip.track_id, error=f"{clip.path}: {reason}")


def _line(name: str, findings: Sequence[ClipHeaders]) -> tuple[str, ...]:
    readable = [finding for finding in findings if finding.error is None]
    return (
        name,
        str(len(findings)),
        str(len({finding.track_id for finding in findings})),
        f"{sum(finding.seconds for finding in findings) / 3600:.2f}",
        _codecs(finding.picture for finding in readable),
        _codecs(finding.sound for finding in readable),
        str(sum(finding.picture is None for finding in readable)),
        str(sum(finding.sound is None for finding in readable)),
        str(len(findings) - len(readable)),
    )


def _codecs(names: Iterable[str | None]) -> str:
    counts = Counter(name for name in names if name)
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "-"
