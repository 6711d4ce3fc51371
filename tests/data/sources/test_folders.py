import os
from pathlib import Path

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.sources.folders import (
    Downloads,
    clips_of_files,
    find_media,
    media_fields,
    read_classes,
    read_content,
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


def test_linked_folders_are_read_once_and_loops_end(tmp_path):
    touch(tmp_path, "library/a.mp4", "library/own/b.mp4", "far/c.mp4", "far/deep/d.mp4", "beside/e.mp4")
    library = tmp_path / "library"
    links = {"far": "../far", "far again": "../far", "own again": "own", "circle": ".", "up": "..", "lost": "nowhere"}
    for name, target in links.items():
        (library / name).symlink_to(target)
    (tmp_path / "far/back").symlink_to(library)
    (library / "b.mp4").symlink_to("own/b.mp4")
    (library / "loop.mp4").symlink_to("loop.mp4")
    found = read_content(library)
    names = ["a.mp4", "b.mp4", "far/c.mp4", "far/deep/d.mp4", "own/b.mp4"]
    assert [str(path.relative_to(library)) for path in found.media] == names
    assert found.others == {"without a suffix": 1, ".mp4 that are no files": 1}


def test_all_that_decodes_is_taken_and_the_rest_counted(tmp_path):
    taken = ["MTS", "m2ts", "vob", "ogv", "wma", "aiff", "aif", "mka", "oga", "mp2", "m4b", "3g2", "f4v", "qt"]
    touch(tmp_path, *(f"a.{suffix}" for suffix in taken))
    hidden = [".Trash/1.mp4", "@eaDir/a.mp4/x.mp4", "__MACOSX/a.mp4", "._a.mp4", ".DS_Store"]
    touch(tmp_path, *hidden, "a.txt", "b.TXT", "README", "c.mp4.part")
    os.mkfifo(tmp_path / "fifo.mp4")
    found = read_content(tmp_path)
    assert sorted(path.suffix[1:] for path in found.media) == sorted(taken)
    assert found.others == {
        **{".Trash/": 1, "@eaDir/": 1, "__MACOSX/": 1, "hidden files": 2, ".txt": 2, "without a suffix": 1},
        **{".part": 1, ".mp4 that are no files": 1},
    }
    assert found.notes()[0].startswith("not taken: 2 ")


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
