"""Clips with the same content, whatever their files are called."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from .clips import ClipSpec

CHUNK = 1 << 20  # bytes read at once


def deduplicate(
    clips: Sequence[ClipSpec], *, num_workers: int = 1
) -> tuple[list[ClipSpec], list[tuple[ClipSpec, ClipSpec]]]:
    """The first of all clips with the same content, and (left out, kept) for the others.

    The content is the bytes of the files and which part of them is used. Only files of equal size are read.
    """
    paths = {str(media) for clip in clips for media in (clip.video, clip.audio) if media is not None}
    with ThreadPoolExecutor(max(1, num_workers)) as pool:  # reading and hashing work outside Python's lock
        contents = _contents(sorted(paths), pool)
    kept: dict[tuple, ClipSpec] = {}
    left_out = []
    for clip in clips:
        files = (contents.get(str(clip.video)), contents.get(str(clip.audio)))
        first = kept.setdefault((*files, clip.start, clip.end, clip.audio_start, clip.audio_end), clip)
        if first is not clip:
            left_out.append((clip, first))
    return list(kept.values()), left_out


def _contents(paths: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, str]:
    """Something equal for files with equal bytes: their hash; the path where no other has its size."""
    sizes = dict(zip(paths, pool.map(_size, paths), strict=True))
    counts = Counter(sizes.values())
    shared = [path for path in paths if sizes[path] > 0 and counts[sizes[path]] > 1]
    return {path: path for path in paths} | dict(zip(shared, pool.map(_hash, shared), strict=True))


def _size(path: str) -> int:
    """Bytes of a file; 0 where it cannot be read, which decoding will report."""
    return os.path.getsize(path) if os.path.isfile(path) else 0


def _hash(path: str) -> str:
    digest = hashlib.blake2b(digest_size=32)
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
