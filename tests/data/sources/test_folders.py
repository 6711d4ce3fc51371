from pathlib import Path

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.sources.folders import (
    Downloads,
    clips_of_files,
    find_media,
    media_fields,
    read_classes,
)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_media_of_all_kinds_are_found_in_order_and_nothing_else(tmp_path):
    touch(tmp_path, "b.MP4", "a/c.webm", "a/d.flac", "note.txt", "._b.mp4", "a/e.mp4.part", "f.mp4/inside.ts")
    assert [str(path.relative_to(tmp_path)) for path in find_media(tmp_path)] == [
        *("a/c.webm", "a/d.flac", "b.MP4", "f.mp4/inside.ts")
    ]


def test_clips_are_named_apart(tmp_path):
    touch(tmp_path, "a/1.mp4", "b/1.mp4", "b/1.mp3", "b/two.parts.mkv")
    clips = clips_of_files(find_media(tmp_path))
    assert [clip.clip_id for clip in clips] == ["a/1", "b/1.mp3", "b/1.mp4", "b/two.parts"]
    assert [clip.track_id for clip in clips] == [clip.clip_id for clip in clips]
    assert clips_of_files([]) == []


def test_kinetics_folders(tmp_path):
    touch(tmp_path, "train/abseiling/a.mp4", "train/zumba/b.mp4", "val/zumba/c.mp4")
    clips = read_classes(tmp_path, find_media(tmp_path))
    assert [(clip.split, clip.labels) for clip in clips] == [
        ("train", ("abseiling",)),
        ("train", ("zumba",)),
        ("val", ("zumba",)),
    ]
    assert [(clip.split, clip.labels) for clip in read_classes(tmp_path / "train", find_media(tmp_path / "train"))] == [
        (None, ("abseiling",)),
        (None, ("zumba",)),
    ]


@pytest.mark.parametrize("name", ["a.mp4", "train/a.mp4"])
def test_a_file_in_no_class_cannot_be_used(tmp_path, name):
    touch(tmp_path, "zumba/b.mp4", name)
    found = [clip.error for clip in read_classes(tmp_path, find_media(tmp_path)) if clip.error]
    assert len(found) == 1
    assert "a.mp4: lies in no class's folder" in found[0]


def test_downloads_are_found_by_what_they_start_with(tmp_path):
    names = ["abc.mp4", "abcd.mp4", "abc_30.wav", "abc_x.mp4", "abc+Song.mp3", "A title [dQw4w9WgXcQ].webm"]
    touch(tmp_path, *names)
    downloads = Downloads(tmp_path)
    assert [path.name for path in downloads.find("abc")] == ["abc.mp4"]
    assert sorted(downloads.find_more("abc", "_")) == [
        ("30", tmp_path / "abc_30.wav"),
        ("x", tmp_path / "abc_x.mp4"),
    ]
    assert [rest for rest, _ in downloads.find_more("abc", "+")] == ["Song"]
    assert [path.name for path in downloads.find("dQw4w9WgXcQ")] == ["A title [dQw4w9WgXcQ].webm"]
    assert downloads.find("ab") == downloads.find_more("zzz") == []


def test_picture_and_sound_may_be_two_files_but_not_twice_the_same():
    assert media_fields([Path("a.mp4"), Path("a.wav")], "a") == {"video": "a.mp4", "audio": "a.wav"}
    with pytest.raises(SourceError, match="both named a: keep one"):
        media_fields([Path("a.mp4"), Path("b/a.webm")], "a")
