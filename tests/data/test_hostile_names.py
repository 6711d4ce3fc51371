"""Folders as they come: names of any bytes, files that are none, and ten thousand of both, prepared and indexed."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest
from conftest import write_noise_clip

from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.files import read_csv, readable

GOOD = [
    *("plain.mp4", "-rf.mp4", "=cmd|' calc'!A0.mp4", "+1.mp4", "@SUM(1).mp4", "new\nline.mp4", "tab\t.mp4", "x .MP4"),
    *("good\x0b\x0bvt.mp4", "\u2028line.mp4", "\u202ereversed.mp4", "a" * 251 + ".mp4", "%s%n.mp4", "$(touch x).mp4"),
    *(
        "http:__x.mp4",
        "file:x.mp4",
        "pipe:0.mp4",
        "concat:a|b.mp4",
        "<img src=x>.mp4",
        "'quote.mp4",
        "nul\ue000\ufeff.mp4",
    ),
]
BAD = ["bad\x0b\x0bvt.mp4", "bad\nline.mp4", '=HYPERLINK("x").mp4', "-bad.mp4", "@bad.mp3", "bad, with comma.wav"]
NO_TEXT = [b"bytes\xff\xfe.mp4", b"\xe9t\xe9.mp3"]
FLAGS = ["--num_frames", "2", "--shorter_side", "32", "--skip_survey"]


def fill(folder: Path, seed: Path, good: list[str], bad: list[str], no_text: list[bytes]) -> None:
    """Files of these names: the seed's bytes under one of its links, and what is no media."""
    for name in good:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(seed, folder / name)
    for name in bad:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("no media")
    for raw in no_text:
        os.link(seed, os.fsencode(folder) + b"/" + raw)


@pytest.fixture
def seed(clip_files, tmp_path) -> Path:
    """A clip on the file system of the test, to be linked."""
    (tmp_path / "seed.mp4").write_bytes(clip_files[0].read_bytes())
    return tmp_path / "seed.mp4"


def test_any_name_is_prepared_or_left_out_with_its_reason(seed, tmp_path, capsys):
    fill(tmp_path / "in", seed, GOOD, BAD, NO_TEXT)
    for _ in range(2):
        assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), *FLAGS, "--num_workers", "0"]) == 0
    assert f"{len(GOOD)} clips in" in capsys.readouterr().out
    assert {Path(path).name for path in load_prepared(tmp_path / "out")["path"]} == set(GOOD)
    heading, *rows = read_csv(tmp_path / "out" / "errors.csv")
    assert heading == ["clip_id", "path", "reason"]
    named = {Path(path).name for _, path, _ in rows}
    assert named == {*BAD, *(readable(os.fsdecode(raw)) for raw in NO_TEXT)}
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "no"), *FLAGS, "--on_error", "fail"]) == 1


def test_any_name_is_indexed_or_left_out_with_its_reason(seed, tmp_path, retriever_folder, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    fill(tmp_path / "in", seed, GOOD, BAD, NO_TEXT)
    for _ in range(2):
        arguments = ["index", str(tmp_path / "in"), str(tmp_path / "index"), "--model", str(retriever_folder)]
        assert main(arguments) == 0
        assert f"{len(GOOD)} items in" in capsys.readouterr().out
        named = {Path(path).name for path, _ in read_csv(tmp_path / "index" / "left_out.csv")[1:]}
        assert named == {*BAD, *(readable(os.fsdecode(raw)) for raw in NO_TEXT)}


@pytest.mark.slow
def test_ten_thousand_mixed_files_are_prepared_and_indexed_with_nothing_lost(tmp_path, retriever_folder, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    seed = write_noise_clip(tmp_path / "seed.mp4", 0, seconds=0.4)
    rng, names = random.Random(0), set[str]()
    while len(names) < 10_000:
        stem = "".join(rng.choices("abcdeÄ€ \t\n\x0b=+-@'\",;#%", k=rng.randint(1, 12))).strip(". ")
        names.add(f"{rng.choice('xyz')}/{rng.randrange(40)}/{stem}{len(names)}{rng.choice(['.mp4', '.MOV', '.mkv'])}")
    shuffled = sorted(names)
    rng.shuffle(shuffled)
    good, bad = shuffled[:9000], shuffled[9000:]
    fill(tmp_path / "in", seed, good, bad, [b"%d\xff.mp4" % number for number in range(100)])
    small = ["--window_seconds", "0.1", "--shorter_side", "16"]
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "out"), *FLAGS, *small]) == 0
    places = Counter(str(Path(path).relative_to(tmp_path / "in")) for path in load_prepared(tmp_path / "out")["path"])
    assert places == dict.fromkeys(good, 1)
    assert len(read_csv(tmp_path / "out" / "errors.csv")) == 1 + 1000 + 100
    assert main(["index", str(tmp_path / "in"), str(tmp_path / "index"), "--model", str(retriever_folder)]) == 0
    assert "9000 items in" in capsys.readouterr().out
    assert len(read_csv(tmp_path / "index" / "left_out.csv")) == 1 + 1000 + 100


def test_rows_of_all_kinds_of_tables_that_are_poison_cost_no_other(seed, tmp_path, capsys):
    poison = [
        "null",
        "[" * 100_000,
        '{"video": 5}',
        '{"video": null}',
        '{"video": "seed.mp4", "fold": 99999999999}',
        "{",
    ]
    poison += ['{"video": "seed.mp4", "clip_id": "x", "label": "\\ud800"}', '{"video": "\\u0000.mp4"}']
    good = [
        json.dumps({"video": "seed.mp4", "clip_id": name, "labels": label}) for name, label in (("a", 3), ("b", [1]))
    ]
    (tmp_path / "a.jsonl").write_text("\n".join([good[0], *poison, good[1]]))
    assert main(["prepare", str(tmp_path / "a.jsonl"), str(tmp_path / "out"), *FLAGS]) == 0
    assert f"2 clips in {tmp_path / 'out'}" in capsys.readouterr().out
    assert load_prepared(tmp_path / "out")["labels"] == [["3"], ["1"]]
    assert len(read_csv(tmp_path / "out" / "errors.csv")) == 1 + len(poison)
    assert main(["prepare", str(tmp_path / "a.jsonl"), str(tmp_path / "no"), *FLAGS, "--on_error", "fail"]) == 1
