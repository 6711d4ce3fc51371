import json

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.sources.manifests import read_manifest, unused_columns


@pytest.fixture
def folder(tmp_path):
    for name in ("v/a.mp4", "v/b.mp4", "m/song.mp3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(folder, text, name="list.csv"):
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_several_videos_share_a_track_that_is_another_file(folder):
    clips = read_manifest(
        write(
            folder,
            "video,audio,track_id,label,split,start,end\n"
            "v/a.mp4,m/song.mp3,song 1,dance,train,,\n"
            "v/b.mp4,m/song.mp3,song 1,,test,1.5,9\n",
        )
    )
    assert [clip.track_id for clip in clips] == ["song 1", "song 1"]
    assert [clip.clip_id for clip in clips] == ["v/a", "v/b@1.5-9"]
    assert clips[0].labels == ("dance",)
    assert clips[1].labels == ()
    assert [clip.split for clip in clips] == ["train", "test"]
    assert clips[1].picture == (str(folder / "v/b.mp4"), 1.5, 9.0)
    assert clips[1].sound == (str(folder / "m/song.mp3"), 1.5, 9.0)


def test_tracks_default_to_the_file_of_the_sound(folder):
    clips = read_manifest(write(folder, "video,audio\nv/a.mp4,m/song.mp3\nv/b.mp4,m/song.mp3\nv/b.mp4,\n"))
    assert [clip.track_id for clip in clips] == ["m/song", "m/song", "v/b"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_all_kinds_of_tables_say_the_same(folder, kind):
    rows = [
        {"file": "v/a.mp4", "labels": "a; b", "fold": "2", "audio_start": "3.5", "group": "film"},
        {"file": "m/song.mp3", "labels": "ü, with a comma", "fold": "1", "audio_start": "0", "group": "ö"},
    ]
    if kind == "jsonl":
        text = "\n".join(
            json.dumps(row | {"labels": row["labels"].split(";"), "fold": int(row["fold"])}) for row in rows
        )
    else:
        mark = {"csv": ",", "tsv": "\t"}[kind]
        text = "\ufeff" + "\n".join(
            mark.join(f'"{cell}"' for cell in line) for line in [rows[0], *map(dict.values, rows)]
        )
    first, second = read_manifest(write(folder, text, f"list.{kind}"))
    assert (first.labels, first.fold, first.group) == (("a", "b"), 2, "film")
    assert first.sound == (str(folder / "v/a.mp4"), 3.5, None)
    assert (second.labels, second.audio, second.video) == (("ü, with a comma",), str(folder / "m/song.mp3"), None)


def test_files_may_lie_elsewhere_and_be_absolute(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists")
    table = write(elsewhere, f"file_name\nv/a.mp4\n{folder}/v/b.mp4\n")
    assert [clip.clip_id for clip in read_manifest(table, folder)] == ["v/a", "v/b"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v/gone.mp4,,,", r"line 3: video = 'v/gone\.mp4' is no file"),
        ("v/a.mp4,two,,", "line 3: start = 'two' is not a number"),
        ("v/a.mp4,nan,,", "line 3: start = 'nan' is not a finite number"),
        ("v/a.mp4,5,4,", "line 3: start = 5.0 and end = 4.0 hold nothing"),
        ("v/a.mp4,-1,4,", r"line 3: start = -1\.0"),
        ("v/a.mp4,,,2.5", "line 3: fold = '2.5' is not a whole number"),
        (",1,2,3", "line 3 names no file"),
        ("v/a.mp4,1", "line 3: expected 4 columns"),
        ("v/a.mp4,1,2,3,4", "line 3: expected 4 columns"),
    ],
)
def test_a_bad_row_is_named_with_line_and_value(folder, row, message):
    table = write(folder, f"video,start,end,fold\nv/a.mp4,,,1\n{row}\n")
    with pytest.raises(SourceError, match=message) as caught:
        read_manifest(table)
    assert str(table) in str(caught.value)


def test_more_bad_rows_are_counted(folder):
    table = write(folder, "video\nv/1.mp4\nv/a.mp4\nv/2.mp4\nv/3.mp4\n")
    with pytest.raises(SourceError, match=r"line 2.*\(2 more such rows\)"):
        read_manifest(table)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.csv", "lists no clip"),
        ("video,start\n", "a.csv", "lists no clip"),
        ('{"video": "v/a.mp4"}\n{"video":', "a.jsonl", "line 2 is not JSON"),
        ('["v/a.mp4"]', "a.jsonl", "line 1: expected an object"),
    ],
)
def test_a_table_that_is_none_is_refused(folder, text, name, message):
    with pytest.raises(SourceError, match=message):
        read_manifest(write(folder, text, name))


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "a.csv").write_bytes(b"video\n\xff\xfe\n")
    with pytest.raises(SourceError, match="save it as UTF-8"):
        read_manifest(folder / "a.csv")


def test_columns_that_mean_nothing_are_known(folder):
    assert unused_columns(write(folder, "video,lable,rms\nv/a.mp4,x,0.1\n")) == ["lable", "rms"]
