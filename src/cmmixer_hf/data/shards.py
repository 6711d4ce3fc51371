"""A folder of Parquet shards that any number of jobs fill, each of which may be killed at any moment and run again.

Shard i holds clips i·n to (i+1)·n − 1 of the source, whoever writes it, and is written whole or not at all; what a
folder is prepared from is recorded before its first shard. So there is no other state: a shard that exists is done.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..files import atomic_file, write_csv
from .clips import ClipSpec
from .prepared_clips import SHARD_SCHEMA, SourceError, shard_path
from .recipes import Recipe, ShardRow, error_row, prepare_clip
from .sources.streams import ClipSpecs, SourceStream
from .workers import map_in_processes

CLAIM = "prepared.json"  # what loading looks for
EARLY_CLAIM = "preparing.json"  # the same until the end of a stream tells how many shards there are
ERROR_TABLE = "errors.csv"
LISTED = ["clip_id", "path", "damage", "error"]  # columns

Task = tuple[int, ClipSpec]  # a clip, and the number of its shard


@dataclass(frozen=True)
class Prepared:
    """What preparing left: the folder, how many clips it holds, (path, reason) of those it could not use.

    `missing_shards` counts those that other jobs have not written yet, `num_damaged` the clips of which something small
    was passed over.
    """

    folder: Path
    num_clips: int
    errors: list[tuple[str, str]]
    missing_shards: int = 0
    num_damaged: int = 0


def write_shard(path: Path, rows: Iterable[ShardRow]) -> None:
    """Write rows as a Parquet file from which each can be read alone; it appears under its name only when complete."""
    with (
        atomic_file(path) as partial_path,
        pq.ParquetWriter(
            partial_path, SHARD_SCHEMA, compression="none", use_dictionary=False, write_statistics=False
        ) as file,
    ):
        for row in rows:  # a row group each
            file.write_table(pa.Table.from_pylist([row], schema=SHARD_SCHEMA))


def decode_rows(tasks: Iterable[Task], recipe: Recipe, *, num_workers: int = 0) -> Iterator[tuple[int, ShardRow]]:
    """A row for every task, in order, in as many processes; a crash of one is an error of its clip.

    Raises:
        SourceError: a clip cannot be used, where the recipe says to fail.
    """
    make, seconds = partial(_numbered_row, recipe=recipe), recipe.seconds_per_clip
    for number, row in map_in_processes(
        make, tasks, num_workers=num_workers, died=_numbered_death, seconds_per_item=seconds
    ):
        if row["error"] and recipe.on_error == "fail":
            raise SourceError(f"{row['error']} (`--on_error skip` leaves such clips out)")
        yield number, row


class Job:
    """One of `jobs` equal jobs that fill `folder` together: it writes every shard whose number leaves `number` over.

    Raises:
        SourceError: there is no such job.
    """

    def __init__(self, clips: ClipSpecs, folder: Path, recipe: Recipe, number: int = 0, jobs: int = 1) -> None:
        if not 0 <= number < jobs:
            raise SourceError(f"there is no job {number} of {jobs}: they count from 0 to {jobs - 1}")
        self.clips, self.folder, self.recipe, self.number, self.jobs = clips, folder, recipe, number, jobs
        self.num_clips = (
            None if isinstance(clips, SourceStream) else len(clips)
        )  # of all jobs; None until a stream ends
        self.digest = _digest(clips, recipe)

    def claim(self, *, restart: bool = False) -> None:
        """Record what the folder is prepared from. Raises SourceError where it was prepared from something else."""
        shards = any(self.folder.glob("part-*.parquet"))  # before the claim, which another job may write meanwhile
        claims = [path for name in (CLAIM, EARLY_CLAIM) if (path := self.folder / name).exists()]
        claim = json.loads(claims[0].read_text()) if claims else {}
        theirs = claim.get("digest")
        if theirs != self.digest and (shards or claims):
            if not restart:
                what = "from other files or settings" if claims else f"without a {CLAIM}"
                if claims and claim["recipe"]["sampling"].get("version", 1) < self.recipe.sampling.version:
                    what = "by an earlier version, which read files otherwise (the sound of several channels too loud)"
                raise SourceError(f"{self.folder} was prepared {what}: choose another folder or delete it")
            _remove(*claims, *self.folder.glob("part-*.parquet"), self.folder / ERROR_TABLE)
        stale = self.folder.glob(".part-*.partial-*")  # what a killed run left; another job's is being written
        _remove(*(path for path in stale if self._is_mine(int(path.name.split(".")[1].removeprefix("part-")))))
        if theirs != self.digest:
            self._write_claim()

    def clips_to_do(self, *, done: bool = False) -> int | None:
        """Clips of this job, or those that are in shards already; None before the end of a stream."""
        if self.num_clips is None:
            return None
        size = self.recipe.clips_per_shard
        mine = [number for number in range(self.num_shards) if self._is_mine(number)]
        counted = [number for number in mine if not done or shard_path(self.folder, number).exists()]
        return sum(min(size, self.num_clips - number * size) for number in counted)

    def tasks(self) -> Iterator[Task]:
        """Clips of the shards that are missing, each with its shard's number."""
        place, missing = -1, False
        for place, clip in enumerate(self.clips):
            number, row = divmod(place, self.recipe.clips_per_shard)
            if row == 0:
                missing = self._is_mine(number) and not shard_path(self.folder, number).exists()
            if missing:
                yield number, clip
        if self.num_clips is None:
            self.num_clips = place + 1
            self._write_claim()

    def finish(self) -> Prepared:
        """Count what the folder holds. Once nothing is missing, the clips that cannot be used are listed in a file.

        Raises:
            SourceError: not one of the clips is usable.
        """
        paths = [shard_path(self.folder, number) for number in range(self.num_shards)]
        there = [path for path in paths if path.exists()]
        tables = [pq.read_table(path, columns=LISTED) for path in there]
        rows = pa.concat_tables([SHARD_SCHEMA.empty_table().select(LISTED), *tables]).to_pylist()
        bad = [row for row in rows if row["error"]]
        missing = len(paths) - len(there)
        if not missing:
            self._write_errors(bad)
            _remove(self.folder / EARLY_CLAIM)
            if len(bad) == len(rows):
                first = f"the first: {bad[0]['error']}" if bad else "there are none"
                hint = (
                    " (`--need audio` takes sound alone, `--need video` pictures)" if self.recipe.need == "both" else ""
                )
                raise SourceError(f"none of the {len(rows)} files is usable; {first}{hint}")
        errors, damaged = [(row["path"], row["error"]) for row in bad], sum(bool(row["damage"]) for row in rows)
        return Prepared(self.folder, len(rows) - len(bad), errors, missing, damaged)

    @property
    def num_shards(self) -> int:
        """Shards of all jobs; 0 before the end of a stream."""
        return math.ceil((self.num_clips or 0) / self.recipe.clips_per_shard)

    def _is_mine(self, shard: int) -> bool:
        return shard % self.jobs == self.number

    def _write_claim(self) -> None:
        claim: dict[str, Any] = {"digest": self.digest, "recipe": self.recipe.content()}
        if self.num_clips is not None:
            claim["shards"] = self.num_shards
        with atomic_file(self.folder / (EARLY_CLAIM if self.num_clips is None else CLAIM)) as path:
            path.write_text(json.dumps(claim, indent=2))

    def _write_errors(self, rows: list[ShardRow]) -> None:
        reasons = ((row["clip_id"], row["path"], row["error"].removeprefix(f"{row['path']}: ")) for row in rows)
        write_csv(self.folder / ERROR_TABLE, [("clip_id", "path", "reason"), *reasons])


def _numbered_row(task: Task, recipe: Recipe) -> tuple[int, ShardRow]:
    return task[0], prepare_clip(task[1], recipe)


def _numbered_death(task: Task, reason: str) -> tuple[int, ShardRow]:
    return task[0], error_row(task[1], f"{task[1].path}: {reason}; convert the file again or leave it out")


def _digest(clips: ClipSpecs, recipe: Recipe) -> str:
    """Changes with every clip, every file's size and time, and everything of a recipe that shards depend on."""
    digest = hashlib.sha256(json.dumps(recipe.content()).encode())
    if isinstance(clips, SourceStream):
        digest.update(clips.fingerprint.encode())
        return digest.hexdigest()
    for clip in clips:
        files = [_stamp(media) for media in (clip.video, clip.audio) if isinstance(media, str)]
        digest.update(f"{clip} {files}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _stamp(path: str) -> tuple[int, int] | None:
    """Size and time of a file; None where it is missing, which its row will say."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _remove(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
