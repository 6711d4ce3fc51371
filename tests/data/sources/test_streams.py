import io
import json
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.clips import Blob
from cmmixer_hf.data.preparation import prepare
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.data.recipes import Recipe, prepare_clip
from cmmixer_hf.data.sources.streams import ClipStream
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
    first, second = ClipStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    assert (first.clip_id, first.track_id, first.labels) == ("clip0", "song", ("x", "y"))
    assert (first.split, second.split) == ("test", "train")
    assert (first.start, second.start) == (0.5, None)
    assert isinstance(second.video, Blob)
    assert same_content(prepare_clip(second, RECIPE), clip_files[1])


def test_sound_alone_and_beside_a_picture(clip_files, tmp_path):
    samples = {"a": {"mp4": clip_files[0].read_bytes(), "wav": b"sound", "cls": b"3"}}
    (clip,) = ClipStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    assert clip.video.data == clip_files[0].read_bytes()
    assert clip.audio.data == b"sound"
    assert clip.labels == ("3",)
    (clip,) = ClipStream(write_tar(tmp_path / "b.tar", {"a": {"flac": b"sound"}}), "webdataset")
    assert (clip.video, clip.audio.data) == (None, b"sound")


def test_parquet_with_bytes_or_records(clip_files, tmp_path):
    contents = [file.read_bytes() for file in clip_files[:2]]
    records = [{"bytes": content, "path": "some.mp4"} for content in contents]
    for name, column in {"bytes": contents, "records": records}.items():
        pq.write_table(pa.table({"video": column, "label": ["a", "b"]}), tmp_path / f"{name}.parquet")
        clips = list(ClipStream(str(tmp_path / f"{name}.parquet"), "parquet"))
        assert [clip.labels for clip in clips] == [("a",), ("b",)]
        assert [clip.clip_id for clip in clips] == ["train-0", "train-1"]
        assert [clip.video.data for clip in clips] == contents


def test_videofolder_gives_paths_splits_and_names_of_classes(clip_files, tmp_path):
    for name, file in zip(("train/cat/a.mp4", "train/dog/b.mp4", "test/dog/c.mp4"), clip_files, strict=False):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(file.read_bytes())
    clips = {clip.video: clip for clip in ClipStream(str(tmp_path), "videofolder")}
    assert {path: (clip.labels, clip.split) for path, clip in clips.items()} == {
        str(tmp_path / "train/cat/a.mp4"): (("cat",), "train"),
        str(tmp_path / "train/dog/b.mp4"): (("dog",), "train"),
        str(tmp_path / "test/dog/c.mp4"): (("dog",), "test"),
    }


def test_addresses_are_fetched(clip_files, tmp_path):
    with fsspec.open("memory://far/away.mp4", "wb") as file:
        file.write(clip_files[0].read_bytes())
    pq.write_table(pa.table({"video": ["memory://far/away.mp4"]}), tmp_path / "a.parquet")
    (clip,) = ClipStream(str(tmp_path / "a.parquet"), "parquet")
    assert clip.path == "memory://far/away.mp4"
    assert same_content(prepare_clip(clip, RECIPE), clip_files[0])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"picture": [b""]}, r"row 0 has none of the columns .*mp4.*: rename"),
        ({"video": [7]}, "column video holds neither bytes nor a path, but int"),
        ({"video": ["gone.mp4"]}, r"row 0: video = 'gone\.mp4' cannot be read"),
        ({"video": [b"a"], "start": ["x"]}, "row 0: start = 'x' is not a number"),
        ({"video": [b"a", b"b"], "id": ["one", "one"]}, "two clips called 'one'"),
    ],
)
def test_rows_that_cannot_be_clips_are_named(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=message):
        list(ClipStream(str(tmp_path / "a.parquet"), "parquet"))


def test_what_datasets_cannot_read_is_one_line(tmp_path):
    with pytest.raises(SourceError, match="cannot be read as webdataset"):
        list(ClipStream(str(tmp_path / "nothing.tar"), "webdataset"))


def test_a_stream_is_prepared_resumed_and_shared_like_a_list(clip_files, tmp_path):
    samples = {f"clip{number}": {"mp4": file.read_bytes()} for number, file in enumerate(clip_files[:5])}
    samples["clip3"] = {"mp4": b"broken"}
    stream = ClipStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    whole = prepare(stream, tmp_path / "whole", RECIPE, progress=False)
    assert (whole.num_clips, whole.missing_shards) == (4, 0)
    assert "a.tar, train, row 3::clip3.mp4" in whole.errors[0][1]
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
    stream = ClipStream(write_tar(tmp_path / "a.tar", samples), "webdataset")
    failing = write_tar(tmp_path / "b.tar", samples | {"clip3": {"mp4": b"broken"}})
    with pytest.raises(SourceError, match="clip3"):
        prepare(
            ClipStream(failing, "webdataset"),
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
    assert prepare(ClipStream(failing, "webdataset"), tmp_path / "out", RECIPE, progress=False).num_clips == 5
    assert (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns == first
    assert not (tmp_path / "out" / "preparing.json").exists()
