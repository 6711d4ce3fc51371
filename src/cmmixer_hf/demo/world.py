"""A yardstick: clips made from a seed in which nothing but content pairs picture and sound.

The factors are in `scenes`, picture and sound in `rendering`; this file turns seeds into libraries of real mp4 files,
and into rows as `data` reads them, for experiments that need many clips and no files.

>>> scene = make_scene(0, duration=2.0)
>>> render_frames(scene).shape, render_sound(scene).shape
((20, 64, 64, 3), (32000,))
"""

import os
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..data.prepared_clips import Row, raw_row
from ..data.workers import map_in_processes
from ..media.reading import Sampling, segment_midpoints, write_clip
from ..media.writing import remove_partial
from ..progress import Progress
from .rendering import render_frames, render_sound
from .scenes import DURATION, Floats, Scene, floats, make_scene

FPS = 10  # frames a second of every file
SAMPLING_RATE = 16000  # Hz, of every file
SMALL = Sampling(num_frames=4, window_seconds=0.6, shorter_side=32)


def write_library(
    folder: str | os.PathLike[str],
    count: int,
    *,
    seed: int,
    difficulty: float = 0.0,
    prefix: str = "clip",
    num_workers: int = 0,
    progress: bool = True,
) -> list[Path]:
    """Write `count` clips of 4 s as `{prefix}-{seed}-{index}.mp4` into `folder` and return their paths in order.

    Clip i depends on (seed, i) and `difficulty`, as in [`make_scene`], so a longer library begins with the shorter one.
    Files that are there already are kept, for a file appears under its name only when it is whole: give each difficulty
    a folder or a `prefix` of its own. `num_workers` processes write, or this one. Raises OSError when one cannot be
    written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}-{seed}-{index:05d}.mp4" for index in range(count)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    quiet = not progress or not missing
    errors = map_in_processes(
        partial(_write_one, paths, seed, difficulty),
        missing,
        num_workers=num_workers,
        died=lambda index, reason: OSError(f"{paths[index]} {reason}"),
    )
    try:
        with closing(errors):
            for error in Progress(errors, desc="Writing clips", total=len(missing), unit="clip", disable=quiet):
                if error:
                    raise error
    except BaseException:
        for index in missing:  # what processes that were ended have begun
            remove_partial(paths[index])
        raise
    return paths


def _write_one(paths: list[Path], seed: int, difficulty: float, index: int) -> OSError | None:
    """Write a clip, or say why it cannot be: an exception would end the process."""
    scene = make_scene(np.random.SeedSequence(seed, spawn_key=(index,)), difficulty=difficulty)
    frames, waveform = render_frames(scene, fps=FPS), render_sound(scene, sampling_rate=SAMPLING_RATE)
    try:
        write_clip(paths[index], frames, waveform, fps=FPS, sampling_rate=SAMPLING_RATE)
    except OSError as error:
        return error
    return None


@dataclass(frozen=True)
class World:
    """What the clips of an experiment are drawn from.

    Args:
        seed: of all clips; clip i depends on (seed, i) alone.
        sampling: K instants, the window and rate of the sound, and the side of the square frames (`shorter_side`).
        duration: seconds a clip.
        difficulty: in [0, 1], as in [`make_scene`].
    """

    seed: int
    sampling: Sampling = SMALL
    duration: float = DURATION
    difficulty: float = 0.0

    def scene(self, index: int) -> Scene:
        """The factors of one clip."""
        seed = np.random.SeedSequence(self.seed, spawn_key=(index,))
        return make_scene(seed, duration=self.duration, difficulty=self.difficulty)

    @property
    def times(self) -> Floats:
        """The K instants of every clip, s."""
        return floats(segment_midpoints(self.duration, self.sampling.num_frames))

    @property
    def size(self) -> int:
        """Side of the frames."""
        return self.sampling.shorter_side or 64


def make_row(world: World, index: int) -> Row:
    """Clip `index` of a world as a row of a shard; its labels are the identities that sound.

    >>> row = make_row(World(seed=0), 3)
    >>> row["clip_id"], row["frame_shape"], len(row["waveforms"])
    ('0-00003', [32, 32], 76800)
    """
    scene = world.scene(index)
    frames = render_frames(scene, times=world.times, size=world.size)
    place = {"path": f"yardstick://{world.seed}/{index}", "duration": world.duration}
    labels = sorted(part.identity for part in scene.parts)
    return raw_row(f"{world.seed}-{index:05d}", frames, _windows(world, scene), labels=labels, **place)


def _windows(world: World, scene: Scene) -> np.ndarray:
    """Sound around each instant, (K, samples) int16, shifted inward at the edges as in [`read_clip`]."""
    rate, size = world.sampling.sampling_rate, round(world.sampling.window_seconds * world.sampling.sampling_rate)
    sound = render_sound(scene, sampling_rate=rate)
    starts = np.clip(np.rint(world.times * rate - size / 2), 0, len(sound) - size).astype(int)
    windows = np.stack([sound[start : start + size] for start in starts])
    return np.rint(windows * 32767).astype(np.int16)
