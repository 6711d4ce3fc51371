import json
import re

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.clips import fault
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
        (",1,2,3", "line 3: names no file"),
        ("v/a.mp4,,,3000000000000", "fold = 3000000000000 is larger"),
        (f"v/a.mp4,,,{'9' * 5000}", "line 3: fold = '9999.* number"),
        ('"v/a.mp4,1,2,3', "line 3: its quotes do not match"),
        (b"v/\xff.mp4,,,", "line 3: is no text in UTF-8"),
        ("v/a.mp4,1", "line 3: expected 4 columns"),
        ("v/a.mp4,1,2,3,4", "line 3: expected 4 columns"),
    ],
)
def test_a_bad_row_is_named_with_line_and_value(folder, row, message):
    row = row if isinstance(row, bytes) else row.encode()
    (folder / "a.csv").write_bytes(b"video,start,end,fold\nv/a.mp4,,,1\n" + row + b"\nv/b.mp4,1,2,3.0\n")
    first, bad, last = read_manifest(folder / "a.csv")
    assert fault(first) is fault(last) is None
    assert last.fold == 3
    assert re.search(message, fault(bad))
    assert str(folder) in fault(bad)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("null", "expected an object"),
        ('{"video":', "is not JSON"),
        ("[" * 100_000 + "]" * 100_000, "is not JSON .*too deeply"),
        ('{"video": "v/a.mp4", "fold": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"video": "v/a.mp4", "label": "\\ud800"}', "no text in UTF-8"),
        ('{"video": "v/a.mp4", "fold": 1e300}', "larger than"),
        ('{"video": "v/a.mp4", "start": 1e999}', "not a finite number"),
        ('{"video": null}', "names no file"),
        ('{"video": ["v/a.mp4"]}', "is no file"),
        ('{"video": "' + "a" * 300 + '.mp4"}', "File name too long|is no file"),
    ],
)
def test_a_bad_line_of_json_is_named_and_costs_no_other(folder, line, message):
    table = write(
        folder, f'{{"video": "v/a.mp4", "label": 3, "labels": [1, "b"]}}\n{line}\n{{"video": "v/b.mp4"}}\n', "a.jsonl"
    )
    first, bad, last = read_manifest(table)
    assert first.labels == ("1", "b")
    assert fault(first) is fault(last) is None
    assert re.search(message, fault(bad))


def test_an_open_quote_costs_its_row_alone(folder):
    table = write(folder, 'video,label\nv/a.mp4,"open\nv/b.mp4,x\nv/a.mp4,"a ""b"", c"\n')
    bad, second, third = read_manifest(table)
    assert "line 2: its quotes do not match" in bad.error
    assert (second.labels, third.labels) == (("x",), ('a "b", c',))


@pytest.mark.parametrize("mark", [";", "\t", "|", ","])
def test_separators_headings_and_blank_rows_of_spreadsheets(folder, mark):
    text = (
        f"Video Path{mark} LABEL{mark}Fold\n\n{mark}{mark}\nv/a.mp4{mark}x{mark}1.0{mark}{mark}\nv/b.mp4{mark}y{mark}\n"
    )
    first, second = read_manifest(write(folder, text))
    assert (first.labels, first.fold) == (("x",), 1)
    assert (second.labels, second.fold, second.error) == (("y",), None, None)


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.csv", "lists no clip"),
        ("video,start\n", "a.csv", "lists no clip"),
        ("film,start\na.mp4,3\n", "a.csv", "no column video, audio, file, but film, start: rename one"),
    ],
)
def test_a_table_that_is_none_is_refused(folder, text, name, message):
    with pytest.raises(SourceError, match=message):
        read_manifest(write(folder, text, name))


def test_bytes_that_are_no_text_are_refused(folder):
    (folder / "a.csv").write_bytes(b"video\n\xff\xfe\n")
    (bad,) = read_manifest(folder / "a.csv")
    assert "save the table as UTF-8" in bad.error


def test_columns_that_mean_nothing_are_known(folder):
    assert unused_columns(write(folder, "video,lable,rms\nv/a.mp4,x,0.1\n")) == ["lable", "rms"]
