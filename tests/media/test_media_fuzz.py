"""Damaged files of every kind: whatever is in them, reading ends in a clip or a MediaError.

The reading is done by another process, so that a crash, a hang or a memory that fills up is seen as such:
`python tests/test_media_fuzz.py FOLDER FIRST LAST` reads the mutations FIRST to LAST of the files in FOLDER.
"""

import json
import os
import resource
import selectors
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from media_files import FILES, PICTURES, SHORT_GOP, SOUNDS, VP9, Recipe, write_media

from cmmixer_hf.media.reading import Clip, MediaError, Sampling, probe, read_clip, read_frames, read_windows

# Other names and containers that cameras, discs, players and phones give their files.
OTHERS = {
    "disc.m2ts": Recipe(
        "libx264", "ac3", SHORT_GOP, container={"format": "mpegts", "options": {"mpegts_m2ts_mode": "1"}}
    ),
    "camera.MTS": Recipe("libx264", "aac", SHORT_GOP, container={"format": "mpegts"}),
    "vp8.ogv": Recipe("libvpx", "libopus", VP9, container={"format": "ogg"}),
    "wmv2.wmv": Recipe("wmv2", "wmav2", sound={"b": "128000"}, container={"format": "asf"}),
    "a.wma": Recipe(audio="wmav2", rate=44100, sound={"b": "128000"}, container={"format": "asf"}),
    "mpeg4.divx": Recipe("mpeg4", "libmp3lame", container={"format": "avi"}),
    "phone.3g2": Recipe("mpeg4", "aac", container={"format": "3g2"}),
    "flash.f4v": Recipe("libx264", "aac", SHORT_GOP, container={"format": "f4v"}),
    "quick.qt": Recipe("mjpeg", "pcm_s16le", pixels="yuvj420p", container={"format": "mov"}),
    "book.m4b": Recipe(audio="aac", rate=44100, container={"format": "ipod"}),
    "a.aif": Recipe(audio="pcm_s16be", rate=11025, layout="mono", container={"format": "aiff"}),
    "a.oga": Recipe(audio="flac", container={"format": "ogg"}),
    "a.mp2": Recipe(audio="mp2", container={"format": "mp2"}),
}
RECIPES = FILES | SOUNDS | PICTURES | OTHERS
A_FEW, MANY = 5, 142  # mutations of each file; ten thousand in all
SMALL = Sampling(num_frames=3, window_seconds=0.3, shorter_side=32)
MEGABYTE = 2**20
MEMORY = 400  # megabytes by which the process may grow over all files together, whatever they claim
HANGS = 300  # seconds without a word from the other process, which needs milliseconds a file


def mutate(data: bytes, draw: np.random.Generator) -> bytes:
    """One or two damages: bytes flipped, blocks cut, doubled, swapped or blanked, numbers made extreme."""
    for _ in range(draw.integers(1, 3)):
        data = draw.choice(MUTATIONS)(data, draw)
    return data


def flip_anywhere(data: bytes, draw: np.random.Generator) -> bytes:
    return _overwrite(data, draw.integers(0, len(data), draw.integers(1, 60)), draw)


def flip_at_the_start(data: bytes, draw: np.random.Generator) -> bytes:
    return _overwrite(data, draw.integers(0, min(len(data), 600), draw.integers(1, 20)), draw)


def flip_at_the_end(data: bytes, draw: np.random.Generator) -> bytes:
    return _overwrite(data, len(data) - draw.integers(1, min(len(data), 3000), draw.integers(1, 20)), draw)


def cut_off(data: bytes, draw: np.random.Generator) -> bytes:
    place = draw.integers(1, len(data))
    return data[:place] if draw.random() < 0.7 else data[place:]


def cut_out(data: bytes, draw: np.random.Generator) -> bytes:
    first, last = _block(data, draw)
    return data[:first] + data[last:] or data


def double(data: bytes, draw: np.random.Generator) -> bytes:
    first, last = _block(data, draw)
    place = draw.integers(0, len(data))
    return data[:place] + data[first:last] * int(draw.integers(1, 4)) + data[place:]


def swap(data: bytes, draw: np.random.Generator) -> bytes:
    first, last = _block(data, draw)
    place = draw.integers(0, len(data))
    rest = data[:first] + data[last:]
    return rest[:place] + data[first:last] + rest[place:]


def blank(data: bytes, draw: np.random.Generator) -> bytes:
    first, last = _block(data, draw)
    return data[:first] + draw.choice([b"\0", b"\xff"]) * (last - first) + data[last:]


def make_extreme(data: bytes, draw: np.random.Generator) -> bytes:
    size, place = draw.choice([1, 2, 4, 8]), draw.integers(0, min(len(data), 2000))
    number = draw.choice([b"\0" * 8, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + b"\0" * 7])[:size]
    return data[:place] + number + data[place + size :]


MUTATIONS = (
    flip_anywhere,
    flip_at_the_start,
    flip_at_the_end,
    cut_off,
    cut_out,
    double,
    swap,
    blank,
    make_extreme,
)


def _overwrite(data: bytes, places: np.ndarray, draw: np.random.Generator) -> bytes:
    damaged = bytearray(data)
    for place in places:
        damaged[place] ^= int(draw.integers(1, 256))
    return bytes(damaged)


def _block(data: bytes, draw: np.random.Generator) -> tuple[int, int]:
    first = int(draw.integers(0, len(data)))
    return first, min(len(data), first + int(draw.integers(1, 1 + max(1, len(data) // 4))))


@pytest.fixture(scope="module")
def tiny_files(tmp_path_factory) -> Path:
    """Every recipe as a file of a few kilobytes."""
    folder = tmp_path_factory.mktemp("tiny")
    for name, recipe in RECIPES.items():
        size = tuple(side // 2 + 1 - side // 2 % 2 if side % 2 else side // 2 for side in recipe.size)
        tiny = {"seconds": 0.6, "size": size, "stamps": recipe.stamps[:15]}
        try:
            write_media(folder / name, Recipe(**vars(recipe) | tiny))
        except pytest.skip.Exception as skipped:
            print(f"without {name}: {skipped}")
    return folder


def test_whole_files_are_read(tiny_files):
    found = {name: read(path, OTHERS[name]) for name in OTHERS if (path := tiny_files / name).exists()}
    assert len(found) >= len(OTHERS) - 2  # encoders that an FFmpeg may lack
    assert not any(found.values())


def test_damaged_files_decode_or_raise_media_error(tiny_files):
    found = outcomes(tiny_files, 0, A_FEW)
    assert not [outcome for outcome in found if "wrong" in outcome]
    errors = sum("error" in outcome for outcome in found)
    assert 0.1 < errors / len(found) < 0.9  # else the damages are too small or too large to tell anything


@pytest.mark.slow
def test_many_damaged_files_decode_or_raise_media_error(tiny_files):
    assert not [outcome for outcome in outcomes(tiny_files, A_FEW, MANY) if "wrong" in outcome]


def test_a_reader_that_dies_is_noticed(tmp_path):
    (tmp_path / "no-such-recipe.mp4").write_bytes(b"it raises KeyError")
    assert outcomes(tmp_path, 0, 1) == [{"case": "no-such-recipe.mp4 0", "wrong": "the process died or hung"}]


def outcomes(folder: Path, first: int, last: int) -> list[dict[str, str]]:
    """What became of the mutations `first` to `last` of each file; a reader that died is started anew."""
    found, cases = list[dict[str, str]](), len(list(folder.iterdir())) * (last - first)
    while len(found) < cases:
        line = {"case": "before the first file"}
        for line in report(folder, first, last, skip=len(found)):
            found += [line] if line.pop("done", False) else []
        if len(found) < cases:
            found.append({"case": line["case"], "wrong": "the process died or hung"})
    return found


def report(folder: Path, first: int, last: int, *, skip: int) -> Iterator[dict]:
    """Lines of a reading process, until it ends or says nothing for long."""
    command = [sys.executable, "-X", "faulthandler", __file__, str(folder), str(first), str(last), str(skip)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0, env=environment) as process,
        selectors.DefaultSelector() as words,
    ):
        words.register(process.stdout, selectors.EVENT_READ)
        while words.select(HANGS) and (line := process.stdout.readline()):
            yield json.loads(line)
        process.kill()


def read_mutations(folder: Path, first: int, last: int, skip: int) -> None:
    """Read each mutation and report it, before and after."""
    resource.setrlimit(resource.RLIMIT_AS, (8 * 1024 * MEGABYTE, 8 * 1024 * MEGABYTE))  # a runaway must not take all
    at_first = grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cases = [(path, seed) for path in sorted(folder.iterdir()) for seed in range(first, last)]
    for path, seed in cases[skip:]:
        say(case=f"{path.name} {seed}")
        damaged = folder.parent / f"damaged-{path.name}"
        damaged.write_bytes(mutate(path.read_bytes(), np.random.default_rng(seed)))
        outcome = read(damaged, RECIPES[path.name])
        before, grown = grown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if grown > max(before, at_first + MEMORY * 1024):
            outcome = {"wrong": f"took {(grown - at_first) // 1024} MB"}
        say(case=f"{path.name} {seed}", done=True, **outcome)


def read(path: Path, recipe: Recipe) -> dict[str, str]:
    """The `error` of a file that could not be read, or what went `wrong`; nothing where there are clips."""
    try:
        has_video, has_audio = recipe.video is not None, recipe.audio is not None
        probe(path)
        check(read_clip(path, SMALL, video=has_video, audio=has_audio))
        check(read_clip(path, SMALL, start=0.1, end=0.4, video=has_video, audio=has_audio))
        if has_video:
            read_frames(path, [0.5, 0.05, 0.3])
        if has_audio:
            read_windows(path, [0.5, 0.05, 3.0], window_seconds=0.1)
    except MediaError as error:
        helpful = error.path == str(path) and error.advice and "\n" not in str(error)
        return {"error" if helpful else "wrong": str(error)}
    except Exception as error:  # noqa: BLE001 - any other is what is looked for
        return {"wrong": f"{type(error).__name__}: {error}"}
    return {}


def check(clip: Clip) -> None:
    if clip.frames is not None and not (clip.frames.shape[0] == 3 and clip.frames.dtype == np.uint8):
        raise ValueError(f"frames {clip.frames.shape}")
    if clip.waveforms is not None and not (clip.waveforms.shape == (3, 4800) and np.isfinite(clip.waveforms).all()):
        raise ValueError(f"waveforms {clip.waveforms.shape}")


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    read_mutations(Path(sys.argv[1]), *map(int, sys.argv[2:]))
