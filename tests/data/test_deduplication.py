from dataclasses import replace

from cmmixer_hf.data.clips import ClipSpec, clip_of_file
from cmmixer_hf.data.selection import deduplicate


def test_equal_bytes_are_kept_once_and_named(tmp_path):
    for name, content in {"a": b"one", "b": b"two", "c": b"one", "d": b"other length"}.items():
        (tmp_path / f"{name}.mp4").write_bytes(content)
    clips = [clip_of_file(tmp_path / f"{name}.mp4") for name in "abcd"]
    kept, left_out = deduplicate(clips, num_workers=2)
    assert [clip.clip_id for clip in kept] == ["a", "b", "d"]
    assert [(clip.clip_id, first.clip_id) for clip, first in left_out] == [("c", "a")]


def test_other_parts_of_a_file_and_other_sound_are_other_clips(tmp_path):
    for name in ("a.mp4", "b.mp4", "x.mp3"):
        (tmp_path / name).write_bytes(b"same")
    clip = ClipSpec("a", "a", video=str(tmp_path / "a.mp4"))
    same = replace(clip, clip_id="b", video=str(tmp_path / "b.mp4"))
    part, sound = (
        replace(clip, clip_id="part", start=1.0),
        replace(clip, clip_id="sound", audio=str(tmp_path / "x.mp3")),
    )
    kept, left_out = deduplicate([clip, same, part, sound])
    assert kept == [clip, part, sound]
    assert left_out == [(same, clip)]


def test_files_that_cannot_be_read_or_are_empty_stay(tmp_path):
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    clips = [clip_of_file(tmp_path / name) for name in ("a.mp4", "b.mp4", "gone.mp4", "away.mp4")]
    assert deduplicate(clips) == (clips, [])
