"""Which clips of a source: an even part of them (§4.1), none twice, and splits that nothing leaks through."""

import hashlib
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from ..files import file_digest
from .clips import ClipSpec


def assign_splits(ties: Sequence[Collection[str]], shares: Mapping[str, float], *, seed: int = 0) -> list[str]:
    """A split's name for every clip.

    Args:
        ties: of each clip: clips with a common entry, or joined by a chain of such, stay together.
        shares: part of the clips that each split gets, which add up to 1. Together, the first n splits get their share
            but for at most half of the largest group of clips that stay together.
        seed: of the shuffling of these groups, which is the same on every machine.

    Raises:
        ValueError: shares that are not positive or do not add up to 1.

    >>> assign_splits([["song 1"], ["song 2"], ["song 1"], ["song 2"]], {"train": 0.5, "test": 0.5})
    ['test', 'train', 'test', 'train']
    """
    if not shares or min(shares.values()) <= 0 or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"the shares of splits must be positive and add up to 1, got {dict(shares)}")
    bunches = sorted(_bunches(ties).items(), key=lambda bunch: _shuffled(bunch[0], seed))
    names = list(shares)
    ends = [sum(list(shares.values())[: place + 1]) * len(ties) for place in range(len(names))]
    chosen = [""] * len(ties)
    before, split = 0, 0
    for _, members in bunches:
        while split < len(names) - 1 and before + len(members) / 2 > ends[split]:
            split += 1
        for place in members:
            chosen[place] = names[split]
        before += len(members)
    return chosen


def _bunches(ties: Sequence[Collection[str]]) -> dict[str, list[int]]:
    """Places of the clips that stay together, by the first of the ties between them."""
    parents: dict[str, str] = {}

    def root(tie: str) -> str:
        while parents.setdefault(tie, tie) != tie:
            parents[tie] = tie = parents[parents[tie]]
        return tie

    for clip in ties:
        first, *others = sorted(root(tie) for tie in clip)
        parents.update(dict.fromkeys(others, first))
    bunches = defaultdict(list)
    for place, clip in enumerate(ties):
        bunches[root(next(iter(clip)))].append(place)
    return bunches


def _shuffled(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed} {name}".encode(), digest_size=16).digest()


def select_clips(
    clips: Sequence[ClipSpec],
    amount: float,
    *,
    seed: int = 0,
    suits: Callable[[Iterable[ClipSpec]], Iterable[bool]] = lambda clips: (True for _ in clips),
) -> list[ClipSpec]:
    """A part of the clips at random, as evenly from all labels as they allow, in the order of the source (§4.1).

    Args:
        clips: of a clip with several labels the rarest counts; each split is sampled separately.
        amount: a share of the clips up to 1, or their number.
        seed: of the random choice.
        suits: whether each of some clips may be taken; called for no more clips than needed.
    """
    share = amount if amount <= 1 else min(1.0, amount / max(1, len(clips)))
    splits = defaultdict(list)
    for place, clip in enumerate(clips):
        splits[clip.split].append(place)
    chosen: list[int] = []
    for places in splits.values():
        order = [places[rank] for rank in _even_order([clips[place] for place in places], seed)]
        suited = suits(clips[place] for place in order)
        suitable = (place for place, good in zip(order, suited, strict=True) if good)
        chosen += islice(suitable, round(share * len(places)))
    return [clips[place] for place in sorted(chosen)]


def _even_order(clips: Sequence[ClipSpec], seed: int) -> list[int]:
    """Places of clips in an order of which every beginning has as many of each label, as long as there are any."""
    counts = Counter(label for clip in clips for label in clip.labels)
    classes = defaultdict(list)
    for place in sorted(range(len(clips)), key=lambda place: _shuffled(clips[place].clip_id, seed)):
        classes[min(clips[place].labels, key=lambda label: (counts[label], label), default="")].append(place)
    ranked = [(rank, _shuffled(label, seed), place) for label in classes for rank, place in enumerate(classes[label])]
    return [place for *_, place in sorted(ranked)]


def deduplicate(
    clips: Sequence[ClipSpec], *, num_workers: int = 1
) -> tuple[list[ClipSpec], list[tuple[ClipSpec, ClipSpec]]]:
    """The first of the clips with equal content, and pairs (left out, kept) for the duplicates.

    The content is the bytes of the files and which part of them is used. Only files of equal size are read.
    """
    paths = {str(media) for clip in clips for media in (clip.video, clip.audio) if media is not None}
    with ThreadPoolExecutor(max(1, num_workers)) as pool:  # reading and hashing work outside Python's lock
        contents = _contents(sorted(paths), pool)
    kept: dict[tuple, ClipSpec] = {}
    left_out = []
    for clip in clips:
        files = (contents.get(str(clip.video)), contents.get(str(clip.audio)))
        if clip.error is not None:
            files = (clip.clip_id, clip.error)
        first = kept.setdefault((*files, clip.start, clip.end, clip.audio_start, clip.audio_end), clip)
        if first is not clip:
            left_out.append((clip, first))
    return list(kept.values()), left_out


def _contents(paths: Sequence[str], pool: ThreadPoolExecutor) -> dict[str, str]:
    """A key for each path, equal for files with equal bytes: a hash, or the path where no other file has its size."""
    sizes = dict(zip(paths, pool.map(_size, paths), strict=True))
    counts = Counter(sizes.values())
    shared = [path for path in paths if sizes[path] > 0 and counts[sizes[path]] > 1]
    return {path: path for path in paths} | dict(zip(shared, pool.map(file_digest, shared), strict=True))


def _size(path: str) -> int:
    """Bytes of a file; 0 where it cannot be read, which decoding will report."""
    return os.path.getsize(path) if os.path.isfile(path) else 0
