import os

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.files import readable
from cmmixer_hf.search.library import read_library, same_stamp, stamp


def test_a_folder_is_its_media_files(clip_files):
    files, _ = read_library(clip_files[0].parent, "audio")
    assert [file.path for file in files] == [str(path) for path in clip_files]
    assert files[0].metadata == {}
    assert files[0].known == {"measured": {"title": "clip0"}}
    assert all(os.path.isabs(file.path) for file in files)


def test_a_manifest_names_files_beside_it_with_metadata(tmp_path):
    (tmp_path / "list.csv").write_text('path,title,genre\na.mp3,"Ode, to Joy",choir\nsub/b.mp3,,\n/far/c.mp3,Sea,\n')
    files, _ = read_library(tmp_path / "list.csv", "audio")
    assert [file.path for file in files] == [str(tmp_path / "a.mp3"), str(tmp_path / "sub" / "b.mp3"), "/far/c.mp3"]
    expected = [{"title": "Ode, to Joy", "genre": "choir"}, {}, {"title": "Sea"}]
    assert [file.metadata for file in files] == expected


def test_json_lines_keep_numbers_and_lists(tmp_path):
    (tmp_path / "list.jsonl").write_text(
        '{"path": "a.mp3", "bpm": 120, "tags": ["calm", "piano"]}\n\n{"path": "b.mp3"}\n'
    )
    (first, second), _ = read_library(str(tmp_path / "list.jsonl"), "audio")
    assert first.metadata == {"bpm": 120, "tags": ["calm", "piano"]}
    assert second.metadata == {}


def test_the_column_of_the_modality_is_taken_and_a_track_of_several_videos_counts_once(tmp_path):
    (tmp_path / "pairs.tsv").write_text("video\taudio\n1.mp4\tsong.mp3\n2.mp4\tsong.mp3\n")
    assert len(read_library(tmp_path / "pairs.tsv", "video")[0]) == 2
    (track,), _ = read_library(tmp_path / "pairs.tsv", "audio")
    assert track.path == str(tmp_path / "song.mp3")
    assert track.metadata == {"video": "1.mp4"}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "file\nx.mp3\n", "line 2: names no file: give a column `path` or `audio`"),
        ("a.csv", "", "lists no clip"),
        ("a.csv", "path,start\nx.mp3,3\n", "column `start`"),
        ("a.csv", "path,measured\nx.mp3,3\n", "column `measured`"),
        ("a.jsonl", "[1, 2]\n", "line 1: expected an object"),
        ("a.jsonl", '{"bpm": 3}\n', "line 1: names no file"),
    ],
)
def test_manifests_that_cannot_work(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=message):
        read_library(tmp_path / name, "audio")


def test_a_row_that_cannot_be_used_costs_no_other(tmp_path):
    bad = [
        '{"path":',
        "null",
        "[" * 100_000,
        '{"path": "x.mp3", "title": "\\ud800"}',
        '{"path": "\\udcff.mp3"}',
        '{"title": "x"}',
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(['{"path": "a.mp3", "bpm": 3}', *bad, '{"path": 5}']))
    files, _ = read_library(tmp_path / "a.jsonl", "audio")
    assert [file.path for file in files if not file.error] == [str(tmp_path / "a.mp3"), str(tmp_path / "5")]
    errors = [file.error for file in files if file.error]
    assert len(errors) == len(bad)
    assert all(readable(error) == error for error in errors)


def test_a_folder_tells_what_it_did_not_take_and_which_names_are_no_text(tmp_path):
    (tmp_path / "a.mp3").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / os.fsdecode(b"b\xff.mp3")).touch()
    (good, bad), notes = read_library(tmp_path, "audio")
    assert good.path == str(tmp_path / "a.mp3")
    assert bad.path == str(tmp_path / "b\\udcff.mp3")
    assert "rename it" in bad.error
    assert notes == ["not taken: 1 .txt"]


def test_libraries_that_are_not_there(tmp_path):
    (tmp_path / "latin.csv").write_bytes("path,title\na.mp3,Für Elise\n".encode("latin-1"))
    with pytest.raises(SourceError, match="UTF-8"):
        read_library(tmp_path / "latin.csv", "audio")
    with pytest.raises(SourceError, match="does not exist"):
        read_library(tmp_path / "none.csv", "audio")
    with pytest.raises(SourceError, match="is not a folder"):
        read_library(tmp_path / "none", "audio")


def test_stamps_tell_what_has_changed(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"one")
    by_time, by_content = stamp(str(path)), stamp(str(path), content=True)
    assert same_stamp(by_time, by_content)
    os.utime(path, ns=(1, 1))  # touched
    assert not same_stamp(by_time, stamp(str(path)))
    assert same_stamp(by_content, stamp(str(path), content=True))
    time = path.stat().st_mtime_ns
    by_content = stamp(str(path), content=True)
    path.write_bytes(b"two")  # as long as before, and dated back
    os.utime(path, ns=(time, time))
    assert same_stamp(by_content, stamp(str(path)))
    assert not same_stamp(by_content, stamp(str(path), content=True))
    assert not same_stamp(None, by_time)
    with pytest.raises(FileNotFoundError):
        stamp(str(tmp_path / "none"))
