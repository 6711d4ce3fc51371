import io
import json
import re
import socket
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.clips import Blob, fault
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.data.recipes import Recipe, prepare_clip
from cmmixer_hf.data.sources.streams import SourceStream
from cmmixer_hf.media.reading import Sampling

RECIPE = Recipe(Sampling(num_frames=2, shorter_side=32), clips_per_shard=2)


def write_tar(path, samples):
    """A webdataset: {"key": {"suffix": bytes}}."""
    with tarfile.open(path, "w") as tar:
        for key, parts in samples.items():
            for suffix, content in parts.items():
                entry = tarfile.TarInfo(f"{key}.{suffix}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return str(path)


def same_content(row, file):
    """Whether a row holds what a file does."""
    expected = prepare_clip(file, RECIPE)
    return (row["frames"], row["waveforms"]) == (expected["frames"], expected["waveforms"])


def test_webdataset_with_its_metadata(clip_files, tmp_path):
    about = [{"track_id": "song", "labels": ["x", "y"], "split": "test", "start": 0.5}, {"track_id": "other"}]
    samples = {
        f"clip{number}": {"mp4": clip_files[number].read_bytes(), "json": json.dumps(about[number]).encode()}
        for number in range(2)
    }
    first, second = SourceStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    assert (first.clip_id, first.track_id, first.labels) == ("clip0", "song", ("x", "y"))
    assert (first.split, second.split) == ("test", "train")
    assert (first.start, second.start) == (0.5, None)
    assert isinstance(second.video, Blob)
    assert same_content(prepare_clip(second, RECIPE), clip_files[1])


def test_sound_alone_and_beside_a_picture(clip_files, tmp_path):
    samples = {"a": {"mp4": clip_files[0].read_bytes(), "wav": b"sound", "cls": b"3"}}
    (clip,) = SourceStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    assert clip.video.data == clip_files[0].read_bytes()
    assert clip.audio.data == b"sound"
    assert clip.labels == ("3",)
    (clip,) = SourceStream(write_tar(tmp_path / "b.tar", {"a": {"flac": b"sound"}}), "webdataset")
    assert (clip.video, clip.audio.data) == (None, b"sound")


def test_parquet_with_bytes_or_records(clip_files, tmp_path):
    contents = [file.read_bytes() for file in clip_files[:2]]
    records = [{"bytes": content, "path": "some.mp4"} for content in contents]
    for name, column in {"bytes": contents, "records": records}.items():
        pq.write_table(pa.table({"video": column, "label": ["a", "b"]}), tmp_path / f"{name}.parquet")
        clips = list(SourceStream(str(tmp_path / f"{name}.parquet"), "parquet"))
        assert [clip.labels for clip in clips] == [("a",), ("b",)]
        assert [clip.clip_id for clip in clips] == ["train-0", "train-1"]
        assert [clip.video.data for clip in clips] == contents


def test_videofolder_gives_paths_splits_and_names_of_classes(clip_files, tmp_path):
    for name, file in zip(("train/cat/a.mp4", "train/dog/b.mp4", "test/dog/c.mp4"), clip_files, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    clips = {clip.video: clip for clip in SourceStream(str(tmp_path), "videofolder")}
    assert {path: (clip.labels, clip.split) for path, clip in clips.items()} == {
        str(tmp_path / "train/cat/a.mp4"): (("cat",), "train"),
        str(tmp_path / "train/dog/b.mp4"): (("dog",), "train"),
        str(tmp_path / "test/dog/c.mp4"): (("dog",), "test"),
    }


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1:9/a.mp4", "http://127.0.0.1:9/a.mp4", "memory://far/away.mp4", "hf://a"]
)
def test_addresses_in_rows_are_never_called(tmp_path, address, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it called somebody"))
    pq.write_table(pa.table({"video": [address, None]}), tmp_path / "a.parquet")
    first, second = SourceStream(str(tmp_path / "a.parquet"), "parquet")
    assert "row 0: video = " in first.error
    assert "is an address: fetch the file" in first.error
    assert "row 1: it holds no media" in second.error


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b""]}, "row 0: it holds no media: name the column"),
        ({"video": pa.array([None, b"a"], pa.binary())}, "row 0: it holds no media"),
        ({"video": [7]}, "column video holds neither bytes nor a path, but int"),
        ({"video": ["gone.mp4"]}, r"row 0: video = 'gone\.mp4' is no file"),
        ({"video": [b"a"], "start": ["x"]}, "row 0: start = 'x' is not a number"),
        ({"video": [b"a"], "fold": [2**40]}, "fold = 1099511627776 is larger"),
        ({"video": [b"b", b"a"], "id": ["one", "one"]}, "another clip is called 'one'"),
    ],
)
def test_rows_that_cannot_be_clips_are_named(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    clips = list(SourceStream(str(tmp_path / "a.parquet"), "parquet"))
    assert len(clips) == len(next(iter(columns.values())))
    (bad,) = filter(None, map(fault, clips))
    assert re.search(message, bad)


def test_labels_may_be_numbers_names_of_classes_and_lists_of_both(tmp_path):
    features = Features({"video": Value("binary"), "label": ClassLabel(names=["cat", "dog"])})
    Dataset.from_dict({"video": [b"a", b"b"], "label": [1, -1]}, features).to_parquet(tmp_path / "a.parquet")
    assert [clip.labels for clip in SourceStream(str(tmp_path / "a.parquet"), "parquet")] == [("dog",), ()]
    for labels, expected in (([3], ("3",)), ([[1, 2]], ("1", "2")), (["a;b"], ("a", "b")), ([True], ("True",))):
        pq.write_table(pa.table({"video": [b"a"], "labels": labels}), tmp_path / "a.parquet")
        (clip,) = SourceStream(str(tmp_path / "a.parquet"), "parquet")
        assert clip.labels == expected


def test_text_that_is_not_utf8_costs_its_row_alone(tmp_path):
    raw = pa.array([b"a", b"\xff", b"c"], pa.binary())
    names = pa.Array.from_buffers(pa.string(), 3, raw.buffers())
    pq.write_table(pa.table({"video": [b"a", b"b", b"c"], "label": names}), tmp_path / "a.parquet")
    first, bad, last = SourceStream(str(tmp_path / "a.parquet"), "parquet")
    assert (first.error, last.labels) == (None, ("c",))
    assert "row 1: it cannot be read" in bad.error


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(SourceError, match="cannot be read as webdataset"):
        SourceStream(str(tmp_path / "nothing.tar"), "webdataset")
    with pytest.raises(SourceError, match=r"holds no \.tar file"):
        SourceStream(str(tmp_path), "webdataset")


@pytest.mark.parametrize("kind", ["webdataset", "parquet"])
def test_a_file_that_breaks_off_costs_no_other(clip_files, tmp_path, kind):
    suffix = {"webdataset": "tar", "parquet": "parquet"}[kind]
    paths = [tmp_path / f"test-{number}.{suffix}" for number in range(3)]
    for number, path in enumerate(paths):
        names, data = [f"{number}a", f"{number}b", f"{number}c"], clip_files[number].read_bytes()
        if kind == "webdataset":
            write_tar(path, {name: {"mp4": data} for name in names})
        else:
            pq.write_table(pa.table({"video": [data] * 3, "id": names}), path)
    whole = paths[1].read_bytes()
    paths[1].write_bytes(whole[: len(whole) // 2])
    clips = list(SourceStream(str(tmp_path), kind))
    assert [clip.clip_id for clip in clips if clip.error is None][-3:] == ["2a", "2b", "2c"]
    assert {clip.split for clip in clips if clip.error is None} == {"test"}
    (error,) = [clip.error for clip in clips if clip.error]
    assert f"test-1.{suffix}, after " in error
    assert "fetch it again" in error


def test_names_in_tars_may_be_any(tmp_path):
    names = ["a.MP4", "song.v1.mp4", "two.left.mp4", "two.right.MP4", "b/c.wav", "b/._c.wav", "@eaDir/d.mp4", "e.txt"]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in [*names, "a.b/f.mp4"]:
            entry = tarfile.TarInfo(name)
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"x"))
    clips = list(SourceStream(str(tmp_path / "a.tar"), "webdataset"))
    good = [(clip.clip_id, clip.path.rpartition("::")[2]) for clip in clips if clip.error is None]
    assert good == [
        ("a", "a.mp4"),
        ("song", "song.v1.mp4"),
        ("two.left", "two.left.mp4"),
        ("two.right", "two.right.mp4"),
        ("b/c", "b/c.wav"),
        ("a.b/f", "a.b/f.mp4"),
    ]
    (bad,) = [clip.error for clip in clips if clip.error]
    assert "a.tar::e: it holds no media" in bad


@pytest.mark.parametrize("content", [b"[" * 100_000 + b"]" * 100_000, b"3", b"{", b"\xff", b'{"labels": "\\ud800"}'])
def test_what_a_tar_says_of_a_clip_may_be_broken(tmp_path, content):
    samples = {"a": {"mp4": b"a"}, "b": {"mp4": b"b", "json": content}, "c": {"mp4": b"c", "json": b'{"label": 3}'}}
    clips = list(SourceStream(write_tar(tmp_path / "a.tar", samples), "webdataset"))
    assert [fault(clip) is None for clip in clips] == [True, False, True]
    assert clips[2].labels == ("3",)


def test_a_stream_is_prepared_resumed_and_shared_like_a_list(clip_files, tmp_path):
    samples = {f"clip{number}": {"mp4": file.read_bytes()} for number, file in enumerate(clip_files[:5])}
    samples["clip3"] = {"mp4": b"broken"}
    stream = SourceStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    whole = prepare(stream, tmp_path / "whole", RECIPE, progress=False)
    assert (whole.num_clips, whole.missing_shards) == (4, 0)
    assert "a.tar::clip3.mp4" in whole.errors[0][1]
    loaded = load_prepared(tmp_path / "whole")
    assert loaded["clip_id"] == ["clip0", "clip1", "clip2", "clip4"]
    assert all(same_content(row, clip_files[int(row["clip_id"][-1])]) for row in loaded)
    for job in (1, 0):
        part = prepare(stream, tmp_path / "parts", RECIPE, shard=(job, 2), progress=False)
    assert part == type(part)(tmp_path / "parts", 4, whole.errors)
    for file in (tmp_path / "whole").iterdir():
        assert file.read_bytes() == (tmp_path / "parts" / file.name).read_bytes()


def test_an_interrupted_stream_is_not_finished_and_goes_on(clip_files, tmp_path):
    samples = {f"clip{number}": {"mp4": file.read_bytes()} for number, file in enumerate(clip_files)}
    stream = SourceStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    failing = write_tar(tmp_path / "b.tar", samples | {"clip3": {"mp4": b"broken"}})
    with pytest.raises(SourceError, match="clip3"):
        prepare(
            SourceStream(failing, "webdataset"),
            tmp_path / "out",
            Recipe(RECIPE.sampling, clips_per_shard=2, on_error="fail"),
            progress=False,
        )
    assert (tmp_path / "out" / "part-00000.parquet").exists()
    with pytest.raises(SourceError, match="no prepared clips"):
        load_prepared(tmp_path / "out")
    with pytest.raises(SourceError, match="other files or settings"):
        prepare(stream, tmp_path / "out", RECIPE, progress=False)
    first = (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns
    assert prepare(SourceStream(failing, "webdataset"), tmp_path / "out", RECIPE, progress=False).num_clips == 5
    assert (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns == first
    assert not (tmp_path / "out" / "preparing.json").exists()
