"""`cmmixer prepare-ray`: the same shards, byte for byte, made by the machines of a Ray cluster (extra `[ray]`).

A shard is a task of Ray Data. The machines must see the source and the output under the same paths, and have the
package installed. With `RAY_ADDRESS` set the cluster there is used, else one is started on this machine.
"""

import os
import pickle
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from ..settings import RayPrepareSettings
from .clips import ClipSpec
from .preparation import find_clips, recipe_of, show_prepared, show_source
from .prepared_clips import SourceError, shard_path
from .recipes import Recipe
from .shards import Job, Prepared, decode_rows, write_shard
from .sources.streams import SourceStream


def prepare_on_ray(clips: Sequence[ClipSpec], output: str | Path, recipe: Recipe) -> Prepared:
    """What [`prepare.prepare`] does, each shard a task of Ray Data; goes on where any of them stopped.

    Raises:
        ImportError: Ray is not installed.
        SourceError: as `prepare`.
    """
    import ray
    from ray.exceptions import RayTaskError

    job = Job(clips, Path(output).absolute(), recipe)
    job.claim()
    missing = [
        {"number": number, "clips": pickle.dumps([clip for _, clip in tasks])}
        for number, tasks in groupby(job.tasks(), key=itemgetter(0))
    ]
    if missing:
        shards = ray.data.from_items(missing, override_num_blocks=len(missing))
        folder = job.folder  # without the job, whose list of clips is long
        try:
            shards.map(lambda shard: _fill(shard, folder, recipe), num_cpus=1).materialize()
        except RayTaskError as error:
            raise SourceError(str(error.cause)) from error
    return job.finish()


def prepare_source_on_ray(settings: RayPrepareSettings) -> None:
    """`cmmixer prepare-ray`."""
    recipe, source = recipe_of(settings), find_clips(settings)
    if isinstance(source.clips, SourceStream) or settings.shard != "0/1":
        raise SourceError("Ray deals out the shards of a source that can be listed: no stream, and no --shard")
    show_source(source, settings)
    if settings.dry_run:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("Ray is not installed: pip install 'cmmixer_hf[ray]'") from error
    ray.init(num_cpus=settings.num_workers, include_dashboard=False, log_to_driver=False)
    show_prepared(prepare_on_ray(source.clips, settings.output, recipe))


def _fill(shard: dict[str, Any], folder: Path, recipe: Recipe) -> dict[str, Any]:
    """A task: write one shard, its clips read in a process of their own, as a crash would make Ray try for ever."""
    tasks = [(shard["number"], clip) for clip in pickle.loads(shard["clips"])]
    rows = decode_rows(tasks, recipe, num_workers=1)
    write_shard(shard_path(folder, shard["number"]), (row for _, row in rows))
    return {"number": shard["number"], "clips": len(tasks)}
