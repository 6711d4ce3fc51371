import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.sources.source import read_source, recognise


@pytest.mark.parametrize(
    ("files", "format"),
    [
        (["a.mp4", "b/c.mp3"], "folder"),
        (["natural/a.mp4", "odd/b.mp4"], "folder"),  # names of folders are no labels unless somebody says so
        (["train/zumba/a.mp4", "val/zumba/b.mp4"], "classes"),
        (["train/zumba/a.mp4", "loose.mp4"], "folder"),
        (["x-000.tar", "x-001.tar"], "webdataset"),
        (["x-000.tar", "a.mp4"], "folder"),
        (["data-000.parquet", "README.md"], "parquet"),
        (["meta/esc50.csv", "audio/a.wav"], "esc50"),
    ],
)
def test_folders_are_recognised(tmp_path, files, format):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert recognise(tmp_path) == format


@pytest.mark.parametrize(
    ("name", "line", "format"),
    [
        ("a.csv", "video,track_id,description", "manifest"),
        ("a.csv", "description,file_name", "manifest"),
        ("a.tsv", "video\ttrack_id", "manifest"),
        ("a.jsonl", '{"video": "a.mp4"}', "manifest"),
        ("a.csv", "filename,fold,target,category,esc10,src_file,take", "esc50"),
        ("a.csv", "file,label,fold,duration,sample_rate", "manifest"),
        ("a.csv", "# Segments csv created Sun Mar  5 10:54:31 2017", "audioset"),
        ("a.csv", "YTID,start_seconds,end_seconds,positive_labels", "audioset"),
        ("a.csv", "video_id,music_id,video_start,video_end,music_start,music_end", "mgsv"),
        ("ids.txt", "dQw4w9WgXcQ", "youtube8m"),
        ("ids.csv", "youtube_id", "youtube8m"),
        ("a.csv", "---g-f_I2yQ,1,people marching,test", "vggsound"),
        ("a.csv", '--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"', "audioset"),
        ("a.csv", "label,youtube_id,time_start,time_end,split", "kinetics"),
        ("a.csv", "Video;Label", "manifest"),
        ("a.mp4", "", "folder"),
        ("a.tar", "", "webdataset"),
        ("a.parquet", "", "parquet"),
    ],
)
def test_files_are_recognised(tmp_path, name, line, format):
    (tmp_path / name).write_text(line)
    assert recognise(tmp_path / name) == format


def test_what_is_no_source_says_what_to_do(tmp_path):
    (tmp_path / "a.zip").touch()
    with pytest.raises(SourceError, match="say which with --format"):
        recognise(tmp_path / "a.zip")
    with pytest.raises(SourceError, match="is not a folder"):
        read_source(str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="does not exist"):
        read_source(str(tmp_path / "nowhere"), "manifest")
    with pytest.raises(SourceError, match="leave --media out"):
        read_source(str(tmp_path), media=str(tmp_path))
    with pytest.raises(SourceError, match="unknown format 'zip'"):
        read_source(str(tmp_path), "zip")


def test_the_second_clip_of_a_name_cannot_be_used(clip_files, tmp_path):
    (tmp_path / "m.csv").write_text(f"video,clip_id\n{clip_files[0]},one\n{clip_files[1]},one\n")
    first, second = read_source(str(tmp_path / "m.csv")).clips
    assert (first.error, second.clip_id) == (None, str(clip_files[1]))
    assert "another clip is called 'one'" in second.error


def test_one_file_is_a_source_too(clip_files):
    (clip,) = read_source(str(clip_files[0])).clips
    assert clip.video == str(clip_files[0])


def test_unused_columns_are_told(clip_files, tmp_path):
    (tmp_path / "m.csv").write_text(f"video,lable\n{clip_files[0]},x\n")
    assert read_source(str(tmp_path / "m.csv")).notes == ["columns that mean nothing here: lable"]


def test_parquet_and_tars_are_streams(clip_files, tmp_path):
    pq.write_table(pa.table({"video": [clip_files[0].read_bytes()]}), tmp_path / "a.parquet")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        content = clip_files[0].read_bytes()
        entry = tarfile.TarInfo("clip.mp4")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    for name in ("a.parquet", "a.tar"):
        assert len(list(read_source(str(tmp_path / name)).clips)) == 1


@pytest.mark.parametrize(
    "text", ["a,b,c\n1,2,3\n", "dQw4w9WgXcQ,Game,Dance,Other,More\n", "\xff\xfe\x00", "name,label\nx,y\n"]
)
def test_a_table_that_no_reader_fits_is_refused_with_what_was_seen(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(
        SourceError, match=r"begins with .*which no reader knows for sure.*`video,audio,track_id`.*vggsound"
    ):
        read_source(str(tmp_path / "a.csv"))


def test_rows_that_cannot_be_used_are_counted_and_a_source_of_nothing_else_is_refused(clip_files, tmp_path):
    (tmp_path / "m.csv").write_text(f"video\n{clip_files[0]}\ngone.mp4\n")
    (note,) = read_source(str(tmp_path / "m.csv")).notes
    assert note.startswith("1 of the 2 rows cannot be used, the first: ")
    (tmp_path / "m.csv").write_text("video\ngone.mp4\n")
    with pytest.raises(SourceError, match=r"none of the 1 rows .*m\.csv, line 2: video = 'gone\.mp4' is no file"):
        read_source(str(tmp_path / "m.csv"))
