from dataclasses import replace

import pytest
from conftest import write_noise_clip

from cmmixer_hf.data.clips import ClipSpec, clip_of_file
from cmmixer_hf.data.survey import leaks, survey


def cells(table, split):
    (line,) = [line for line in table.splitlines() if line.startswith(split)]
    heading = table.splitlines()[0]
    starts = [
        heading.index(name)
        for name in ("split", "clips", "tracks", "hours", "picture", "sound", "no picture", "no sound", "unreadable")
    ]
    return [line[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]


def test_the_table_counts_what_is_there(clip_files, tmp_path):
    mute, broken = write_noise_clip(tmp_path / "mute.mp4", 9, sound=False), tmp_path / "broken.mp4"
    broken.write_text("nothing")
    clips = [replace(clip_of_file(file), split="train", track_id="one") for file in clip_files]
    clips += [replace(clip_of_file(file), split="test") for file in (mute, broken)]
    table = survey(clips, progress=False)
    assert cells(table, "train") == ["train", "6", "1", f"{18 / 3600:.2f}", "h264 6", "aac 6", "0", "0", "0"]
    assert cells(table, "test") == ["test", "2", "2", "0.00", "h264 1", "-", "0", "1", "1"]
    assert cells(table, "all")[:3] == ["all", "8", "3"]
    assert cells(table, "all")[-3:] == ["0", "1", "1"]


def test_a_part_of_a_file_counts_as_long_as_it_is(tmp_path):
    file = str(write_noise_clip(tmp_path / "long.mp4", 0, seconds=40))
    hours = cells(survey([ClipSpec("a", "a", video=file, start=2, end=38)], progress=False), "all")[3]
    assert hours == "0.01"
    assert cells(survey([ClipSpec("a", "a", video=file, start=2, end=3)], progress=False), "all")[3] == "0.00"


def test_sound_of_its_own_is_looked_at(clip_files, tmp_path):
    mute = write_noise_clip(tmp_path / "mute.mp4", 9, sound=False)
    clip = ClipSpec("a", "a", video=str(mute), audio=str(clip_files[0]))
    assert cells(survey([clip], progress=False), "all")[4:8] == ["h264 1", "aac 1", "0", "0"]


def test_without_splits_there_is_one_line(clip_files):
    assert len(survey([clip_of_file(clip_files[0])], progress=False).splitlines()) == 2


@pytest.mark.parametrize(("splits", "warnings"), [(["train", "train"], 0), (["train", "test"], 1)])
def test_a_track_in_two_splits_is_a_leak(splits, warnings):
    clips = [ClipSpec(str(number), "song", video="a.mp4", split=split) for number, split in enumerate(splits)]
    assert len(leaks(clips)) == warnings
