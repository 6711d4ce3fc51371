"""A yardstick: clips made from a seed in which nothing but content pairs picture and sound.

The factors are in `scenes`, picture and sound in `rendering`; this file turns seeds into libraries of real mp4 files.

>>> scene = make_scene(0, duration=2.0)
>>> render_frames(scene).shape, render_sound(scene).shape
((20, 128, 128, 3), (32000,))
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .media import write_clip
from .rendering import render_frames, render_sound
from .scenes import Scene, make_scene

__all__ = ["Scene", "make_scene", "render_frames", "render_sound", "write_library"]

FPS = 10  # frames a second of every file
SAMPLING_RATE = 16000  # Hz, of every file


def write_library(
    folder: str | os.PathLike[str],
    count: int,
    *,
    seed: int,
    prefix: str = "clip",
    num_workers: int = 2,
    progress: bool = True,
) -> list[Path]:
    """Write `count` clips of 12 s as `{prefix}-{seed}-{index}.mp4` into `folder` and return their paths in order.

    Clip i depends on (seed, i) alone, so a longer library begins with the shorter one. Files that are there already are
    kept, for a file appears under its name only when it is whole. Raises OSError when one cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}-{seed}-{index:05d}.mp4" for index in range(count)]
    missing = [index for index, path in enumerate(paths) if not path.exists()]
    quiet = not progress or not missing
    with ThreadPoolExecutor(num_workers) as pool:  # threads suffice: numpy and the encoders let go of the lock
        done = pool.map(lambda index: _write_one(paths[index], seed, index), missing)
        try:
            for _ in tqdm(done, desc="Writing clips", total=len(missing), unit="clip", disable=quiet):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)  # otherwise Ctrl-C waits for the whole library
            raise
    return paths


def _write_one(path: Path, seed: int, index: int) -> None:
    scene = make_scene(np.random.SeedSequence(seed, spawn_key=(index,)))
    frames, waveform = render_frames(scene, fps=FPS), render_sound(scene, sampling_rate=SAMPLING_RATE)
    write_clip(path, frames, waveform, fps=FPS, sampling_rate=SAMPLING_RATE)
