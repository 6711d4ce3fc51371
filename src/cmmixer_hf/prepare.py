"""Media files → prepared Parquet shards (`cmmixer prepare`): decode once, train many epochs."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from .atomic import atomic_file
from .data import SCHEMA, SourceError, shard_path
from .media import MediaError, Sampling, read_clip

MEDIA_SUFFIXES = {
    *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".3gp", ".wmv"),
    *(".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wav"),
}
CLIPS_PER_SHARD = 64
# Peak of a window under this (−80 dB) is silence: nothing to learn from, and never a match for a picture.
SILENCE_PEAK = 1e-4


@dataclass
class PrepareSettings:
    """Decode a folder of video files once, into Parquet shards to train on."""

    source: str = field(metadata={"help": "folder of video files"})
    output: str = field(metadata={"help": "folder for the shards"})
    num_frames: int = field(default=8, metadata={"help": "frames and windows of sound a clip"})
    shorter_side: int = field(default=256, metadata={"help": "pixels that frames are scaled down to"})
    num_workers: int = field(default=2, metadata={"help": "decoding threads"})


@dataclass(frozen=True)
class Prepared:
    """What [`prepare`] left: the folder, how many clips it holds, and (path, reason) of those it could not use."""

    folder: Path
    num_clips: int
    errors: list[tuple[str, str]]


def find_media(folder: str | Path) -> list[Path]:
    """Media files under `folder`, sorted; refuses a folder that is missing or has none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise SourceError(f"{folder} is not a folder: give one that holds video files")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in MEDIA_SUFFIXES and path.is_file())
    if not files:
        raise SourceError(f"{folder} holds no media file ({', '.join(sorted(MEDIA_SUFFIXES))}): put some there")
    return files


def prepare(
    files: Sequence[str | Path],
    output: str | Path,
    sampling: Sampling,
    *,
    num_workers: int = 2,
    restart: bool = False,
    progress: bool = True,
) -> Prepared:
    """Decode clips with picture and sound into Parquet shards under `output`; a second run goes on where one stopped.

    Args:
        files: one clip a file.
        output: folder for `part-00000.parquet` …; each shard is written whole or not at all.
        sampling: frames and windows to take.
        num_workers: decoding threads (the decoder works outside Python's lock).
        restart: where `output` was prepared from other files or settings, throw that away instead of refusing.
        progress: show a bar.

    Raises:
        SourceError: no file is usable, or `output` was prepared from other files or settings.
    """
    output = Path(output)
    shards = [list(files[start : start + CLIPS_PER_SHARD]) for start in range(0, len(files), CLIPS_PER_SHARD)]
    _claim(output, files, sampling, num_shards=len(shards), restart=restart)
    with tqdm(total=len(files), desc="preparing", unit="clip", disable=not progress) as bar, _pool(num_workers) as pool:
        for number, shard in enumerate(shards):
            path = shard_path(output, number)
            if not path.exists():
                rows = list(pool.map(lambda file: prepare_clip(file, sampling), shard))
                with atomic_file(path) as partial:
                    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial, compression="none")
            bar.update(len(shard))
    columns = [pq.read_table(shard_path(output, number), columns=["path", "error"]) for number in range(len(shards))]
    errors = [(row["path"], row["error"]) for row in pa.concat_tables(columns).to_pylist() if row["error"]]
    if len(errors) == len(files):
        raise SourceError(f"none of the {len(files)} files is usable; the first: {errors[0][1]}")
    return Prepared(output, len(files) - len(errors), errors)


def prepare_source(settings: PrepareSettings) -> None:
    """`cmmixer prepare`: shards of a folder, and a list of the files that could not be used."""
    sampling = Sampling(num_frames=settings.num_frames, shorter_side=settings.shorter_side)
    prepared = prepare(find_media(settings.source), settings.output, sampling, num_workers=settings.num_workers)
    for _, error in prepared.errors:
        print(f"left out: {error}")
    print(f"{prepared.num_clips} clips in {prepared.folder}, {len(prepared.errors)} files left out")


def prepare_clip(path: str | Path, sampling: Sampling) -> dict[str, Any]:
    """One row of a shard. Never raises for a bad file: its row carries the `error`."""
    row: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    row |= {"clip_id": Path(path).stem, "path": str(path), "track_id": Path(path).stem}
    try:
        clip = read_clip(path, sampling)
        frames, waveforms = clip.frames, clip.waveforms
        if frames is None or waveforms is None or np.abs(waveforms).max() < SILENCE_PEAK:
            raise MediaError(str(path), "its sound is silent throughout", "leave it out of training for retrieval")
    except MediaError as error:
        return row | {"error": str(error)}
    samples = (waveforms.clip(-1, 1) * 32767).round().astype(np.int16)
    return row | {
        "duration": clip.duration,
        "num_segments": len(frames),
        "frames": [frame.tobytes() for frame in frames],
        "frame_shape": list(frames.shape[1:3]),
        "frame_codec": "raw",
        "waveforms": samples.tobytes(),
    }


def _claim(output: Path, files: Sequence[str | Path], sampling: Sampling, *, num_shards: int, restart: bool) -> None:
    """Write down what a folder is prepared from, or refuse a folder that was prepared from something else."""
    stats = [(str(path), Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in files]
    digest = hashlib.sha256(json.dumps([asdict(sampling), stats]).encode()).hexdigest()
    claim = output / "prepared.json"
    if claim.exists() and json.loads(claim.read_text())["digest"] != digest:
        if not restart:
            raise SourceError(f"{output} was prepared from other files or settings: choose another folder or delete it")
        shutil.rmtree(output)
    with atomic_file(claim) as partial:
        partial.write_text(json.dumps({"digest": digest, "shards": num_shards, "sampling": asdict(sampling)}, indent=2))


def _pool(num_workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, num_workers))
