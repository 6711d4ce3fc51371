"""`cmmixer prepare`: a source of clips → a table of what it holds → prepared Parquet shards to train on."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from itertools import chain, islice
from pathlib import Path

from ..files import readable
from ..media.reading import Sampling
from ..progress import Progress, print_left_out
from ..settings import PrepareSettings
from .clips import ClipSpec
from .prepared_clips import SourceError, shard_path
from .recipes import AnyClip, Recipe, ShardRow, has_sound, prepare_clip
from .selection import assign_splits, deduplicate, select_clips
from .shards import ERROR_TABLE, Job, Prepared, decode_rows, write_shard
from .sources.folders import clips_of_files, find_media
from .sources.source import ClipSource, read_source
from .sources.streams import ClipSpecs, SourceStream
from .survey import leaks, survey
from .workers import count_workers, map_in_processes

__all__ = ["PrepareSettings", "Prepared", "find_media", "prepare", "prepare_clip", "prepare_source"]


def prepare(
    clips: Iterable[AnyClip] | SourceStream,
    output: str | Path,
    recipe: Recipe | Sampling,
    *,
    num_workers: int = 0,
    shard: tuple[int, int] = (0, 1),
    restart: bool = False,
    progress: bool = True,
) -> Prepared:
    """Decode clips into Parquet shards under `output`; a later run resumes where one stopped.

    Args:
        clips: files, or the clips of a source; a run resumes only with the same ones.
        output: folder for `part-00000.parquet` …; each shard is written whole or not at all.
        recipe: what becomes of a clip; a sampling alone means picture and sound, raw.
        num_workers: processes that decode; a clip that crashes one counts as an error. 0 decodes here. One run
            keeps up with some 25 processes; where there are more cores, start several with `shard`.
        shard: (i, n) for job i of n that fill one folder, on as many machines as there are.
        restart: where `output` was prepared from other clips or another recipe, replace it instead of refusing.
        progress: show a bar.

    Raises:
        SourceError: no clip is usable, or one is not and the recipe says to fail, or `output` is another set's.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe(recipe)
    job = Job(_listed(clips), Path(output), recipe, *shard)
    job.claim(restart=restart)
    total, done = job.clips_to_do(), job.clips_to_do(done=True) or 0
    with Progress(total=total, initial=done, desc="preparing", unit="clip", disable=not progress) as bar:
        rows = decode_rows(job.tasks(), recipe, num_workers=num_workers)
        for number, first in rows:
            others = (row for _, row in islice(rows, recipe.clips_per_shard - 1))
            write_shard(shard_path(job.folder, number), _counted(chain([first], others), bar))
    return job.finish()


def prepare_source(settings: PrepareSettings) -> None:
    """`cmmixer prepare`: summarise the source, write its shards, and list the clips that could not be used."""
    recipe, shard = recipe_of(settings), shard_of(settings.shard)
    source = find_clips(settings)
    num_workers = _num_workers(settings, source.clips)
    show_source(source, settings, num_workers)
    if not settings.dry_run:
        show_prepared(prepare(source.clips, settings.output, recipe, num_workers=num_workers, shard=shard))


def recipe_of(settings: PrepareSettings) -> Recipe:
    """The recipe that the settings describe. Raises SourceError."""
    given = vars(settings) | {"frame_codec": settings.frames}
    try:
        sampling = Sampling(**{field.name: given[field.name] for field in fields(Sampling) if field.name in given})
        options = {field.name: given[field.name] for field in fields(Recipe) if field.name in given}
        return Recipe(sampling, **options)
    except ValueError as error:
        raise SourceError(str(error)) from error


def shard_of(text: str) -> tuple[int, int]:
    """The job that "i/n" names. Raises SourceError.

    >>> shard_of("2/8")
    (2, 8)
    """
    try:
        number, jobs = map(int, text.split("/"))
    except ValueError as error:
        raise SourceError(f"--shard {text}: expected i/n such as 0/8, the first of eight jobs") from error
    return number, jobs


def find_clips(settings: PrepareSettings) -> ClipSource:
    """The clips of a source: none twice, a part of them, with splits, as far as the settings say so."""
    source = read_source(settings.source, settings.format, media=settings.media)
    given = {name: getattr(settings, name) for name in ("deduplicate", "select", "with_sound", "splits")}
    wanted = [name for name, value in given.items() if value is not None and value is not False]
    if not wanted:
        return source
    if isinstance(source.clips, SourceStream):
        flags = ", ".join(f"--{name}" for name in wanted)
        raise SourceError(f"{source.clips.source} is a stream: {flags} need all its clips at once")
    clips, notes = list(source.clips), list(source.notes)
    if settings.deduplicate:
        clips, twice = deduplicate(clips, num_workers=os.cpu_count() or 1)
        notes += [f"left out: {clip.path} has the same content as {first.path}" for clip, first in twice]
    if settings.select is not None or settings.with_sound:
        clips = _selected(clips, settings)
        notes.append(f"selected: {len(clips)} clips")
    if settings.splits is not None:
        clips = split_clips(clips, settings.splits, settings.seed)
    return replace(source, clips=clips, notes=notes)


def _selected(clips: list[ClipSpec], settings: PrepareSettings) -> list[ClipSpec]:
    """A part of the clips, and all rows that cannot be used, which are counted later."""
    amount = 1.0 if settings.select is None else settings.select
    if not amount > 0:
        raise SourceError(f"--select {amount:g}: give a share of the clips such as 0.05, or a number of them")
    bad, good = [clip for clip in clips if clip.error], [clip for clip in clips if not clip.error]
    if not settings.with_sound:
        return [*select_clips(good, amount, seed=settings.seed), *bad]
    sounds = partial(has_sound, recipe=replace(recipe_of(settings), keep_silent=False))
    workers, died = _num_workers(settings, clips), lambda clip, reason: False
    suits = partial(map_in_processes, sounds, num_workers=workers, died=died)
    return [*select_clips(good, amount, seed=settings.seed, suits=suits), *bad]


def split_clips(clips: list[ClipSpec], shares: str, seed: int = 0) -> list[ClipSpec]:
    """Clips with splits such as "train=0.8,test=0.2", by track and group. Raises SourceError."""
    if any(clip.split is not None for clip in clips):
        raise SourceError("the source has splits of its own: leave --splits out")
    ties = [[f"track {clip.track_id}", *([f"group {clip.group}"] if clip.group else [])] for clip in clips]
    try:
        parts = {name.strip(): float(share) for name, share in (part.split("=") for part in shares.split(","))}
        names = assign_splits(ties, parts, seed=seed)
    except ValueError as error:
        raise SourceError(f"--splits {shares} ({error}): write it as train=0.8,test=0.2") from error
    return [replace(clip, split=name) for clip, name in zip(clips, names, strict=True)]


def show_source(source: ClipSource, settings: PrepareSettings, num_workers: int = 0) -> None:
    """Print a summary of the source. A stream is surveyed only in a dry run, since that fetches all of it."""
    print(f"{settings.source}: {source.format}")
    if settings.dry_run or (not settings.skip_survey and not isinstance(source.clips, SourceStream)):
        print(survey(source.clips, num_workers=num_workers))
    elif not isinstance(source.clips, SourceStream):
        print("\n".join([f"{len(source.clips)} clips", *leaks(source.clips)]))
    print("".join(f"{readable(note)}\n" for note in source.notes), end="")


def show_prepared(prepared: Prepared) -> None:
    """Print a summary of the shards, and why clips are missing."""
    print_left_out([error for _, error in prepared.errors], prepared.folder / ERROR_TABLE)
    size = sum(path.stat().st_size for path in prepared.folder.glob("part-*.parquet"))
    each = f"{size / max(1, prepared.num_clips) / 1e6:.2f} MB each"
    print(f"{prepared.num_clips} clips in {prepared.folder}, {each}, {len(prepared.errors)} left out")
    if prepared.num_damaged:
        print(f"{prepared.num_damaged} of them are damaged here and there, which their column `damage` counts")
    if prepared.missing_shards:
        print(f"{prepared.missing_shards} shards are still missing: the other jobs write them")


def _listed(clips: Iterable[AnyClip] | SourceStream) -> ClipSpecs:
    """Files become clips; clips stay as they are."""
    if isinstance(clips, SourceStream):
        return clips
    given = list(clips)
    named = iter(clips_of_files([clip for clip in given if not isinstance(clip, ClipSpec)]))
    return [clip if isinstance(clip, ClipSpec) else next(named) for clip in given]


def _num_workers(settings: PrepareSettings, clips: ClipSpecs) -> int:
    if settings.num_workers is not None:
        return settings.num_workers
    return count_workers(None if isinstance(clips, SourceStream) else len(clips))


def _counted(rows: Iterable[ShardRow], bar: Progress) -> Iterator[ShardRow]:
    for row in rows:
        yield row
        bar.update()
