"""Layouts of public data sets, as they are published; the files are made here."""

import pytest

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.data.clips import ClipSpec
from cmmixer_hf.data.sources.source import read_source

AUDIOSET = """# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=4, num_positive_labels=5
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
--ZhevVpy1s, 50.000, 60.000, "/m/012xff"
0FKoXoaWFLY, 0.000, 10.000, "/m/02zsn,/t/dd00088"
"""
ESC50 = """filename,fold,target,category,esc10,src_file,take
1-100032-A-0.wav,1,0,dog,True,100032,A
5-100038-A-14.wav,5,14,chirping_birds,False,100038,A
"""
MGSV = """video_id,music_id,video_start,video_end,music_start,music_end,music_total_duration,music_path,video_category
108261684540,4+5xjuhip7mbywr3u,0.0,22.759,0.644,23.403,144.382,/Data/music/0/4+5xjuhip7mbywr3u+Redbone.mp3,Games
100281378398,4+5xiyy3gqsw7uckq,0.0,41.973,55.063,97.026,233.825,/Data/music/0/4+5xiyy3gqsw7uckq+x.mp3,Fashion
95943631201,4+5xjuhip7mbywr3u,0.0,13.096,7.353,20.439,144.382,/Data/music/0/4+5xjuhip7mbywr3u+Redbone.mp3,Fashion
"""


def lay_out(folder, table, text, *files):
    for name in (table, *files):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / table).write_text(text)
    return str(folder / table)


def test_audioset_has_many_labels_and_sections_of_whole_files(tmp_path):
    table = lay_out(
        tmp_path, "balanced_train_segments.csv", AUDIOSET, "--PJHxphWEs.mp4", "d/--ZhevVpy1s_50.000_60.000.flac"
    )
    source = read_source(table)
    assert source.format == "audioset"
    assert source.clips == [
        ClipSpec(
            "--PJHxphWEs_30.000",
            "--PJHxphWEs",
            video=str(tmp_path / "--PJHxphWEs.mp4"),
            labels=("/m/09x0r", "/t/dd00088"),
            split="train",
            start=30,
            end=40,
        ),
        ClipSpec(
            "--ZhevVpy1s_50.000",
            "--ZhevVpy1s",
            audio=str(tmp_path / "d/--ZhevVpy1s_50.000_60.000.flac"),
            labels=("/m/012xff",),
            split="train",
        ),
    ]
    (note,) = source.notes
    assert note.startswith("1 of the 3 clips")


def test_audiosets_labels_have_names_and_its_files_may_be_cut(tmp_path):
    table = lay_out(tmp_path, "eval_segments.csv", AUDIOSET, "--PJHxphWEs.wav")
    (tmp_path / "class_labels_indices.csv").write_text('index,mid,display_name\n0,/m/09x0r,"Speech, female"\n')
    (clip,) = read_source(table, "audioset-cut").clips
    assert (clip.labels, clip.split) == (("Speech, female", "/t/dd00088"), "eval")
    assert (clip.start, clip.end) == (None, None)


@pytest.mark.parametrize("row", ["--PJHxphWEs, 30.000, 40.000", "--PJHxphWEs, x, 40.000, a", "--PJHxphWEs, 5, 4, a"])
def test_audiosets_bad_rows_are_named(tmp_path, row):
    table = lay_out(tmp_path, "eval.csv", f"{AUDIOSET}{row}\n", "--PJHxphWEs.wav")
    (bad,) = [clip.error for clip in read_source(table, "audioset").clips if clip.error]
    assert "eval.csv, line 7: " in bad


@pytest.mark.parametrize("by", ["folder", "table"])
def test_esc50_has_folds_that_recordings_do_not_cross(tmp_path, by):
    files = ["audio/1-100032-A-0.wav", "audio/5-100038-A-14.wav"]
    table = lay_out(tmp_path, "meta/esc50.csv", ESC50, *files)
    source = read_source(table if by == "table" else str(tmp_path))
    assert source.format == "esc50"
    assert [(clip.fold, clip.labels, clip.group) for clip in source.clips] == [
        (1, ("dog",), "100032"),
        (5, ("chirping_birds",), "100038"),
    ]
    assert [clip.audio for clip in source.clips] == [str(tmp_path / name) for name in files]
    assert not any(clip.video for clip in source.clips)


def test_youtube8m_is_ids_over_downloads(tmp_path):
    downloads = ["media/Some title [dQw4w9WgXcQ].mp4", "media/jNQXAC9IVRw.webm"]
    table = lay_out(
        tmp_path, "ids.csv", "youtube_id\ndQw4w9WgXcQ,Game;Music\n\njNQXAC9IVRw\n9bZkp7q19f0,Dance\n", *downloads
    )
    source = read_source(table, media=str(tmp_path / "media"))
    assert source.format == "youtube8m"
    assert [(clip.clip_id, clip.labels) for clip in source.clips] == [
        ("dQw4w9WgXcQ", ("Game", "Music")),
        ("jNQXAC9IVRw", ()),
    ]
    assert source.notes[0].startswith("1 of the 3 clips")
    (tmp_path / "ids.csv").write_text("dQw4w9WgXcQ\nnot an id\n")
    good, bad = read_source(table, "youtube8m").clips
    assert good.error is None
    assert "line 2: 'not an id' is no YouTube id" in bad.error
    with pytest.raises(SourceError, match=r"begins with 'dQw4w9WgXcQ not an id'.*Known are"):
        read_source(table)


def test_mgsv_pairs_sections_of_videos_with_moments_of_tracks(tmp_path):
    files = ["108261684540.mp4", "95943631201.mp4", "music/4+5xjuhip7mbywr3u+Redbone.mp3", "100281378398.mp4"]
    source = read_source(lay_out(tmp_path, "val_data.csv", MGSV, *files))
    assert source.format == "mgsv"
    first, second = source.clips
    assert first.track_id == second.track_id == "4+5xjuhip7mbywr3u"
    assert first.picture == (str(tmp_path / files[0]), 0.0, 22.759)
    assert first.sound == (str(tmp_path / files[2]), 0.644, 23.403)
    assert (second.labels, second.split) == (("Fashion",), "val")
    assert source.notes[0].startswith("1 of the 3 clips")


def test_a_list_without_any_file_says_where_to_look(tmp_path):
    table = lay_out(tmp_path, "eval.csv", AUDIOSET, "other.mp4")
    with pytest.raises(SourceError, match=r"3 of the 3 clips .* have no file in .*--media"):
        read_source(table)


VGGSOUND = """---g-f_I2yQ,1,people marching,test
0FKoXoaWFLY,30,ice cream truck, ice cream van,train
--PJHxphWEs,10,"airplane, flyby",train
--ZhevVpy1s,200,dog barking
"""


def test_vggsound_has_ten_seconds_a_class_and_a_split(tmp_path):
    files = ["---g-f_I2yQ_000001.mp4", "0FKoXoaWFLY.mp4", "--PJHxphWEs_10_20.mp4"]
    source = read_source(lay_out(tmp_path, "vggsound.csv", "\n".join(VGGSOUND.splitlines()[:3]), *files))
    assert source.format == "vggsound"
    assert [clip.labels for clip in source.clips] == [
        ("people marching",),
        ("ice cream truck, ice cream van",),
        ("airplane, flyby",),
    ]
    assert [clip.split for clip in source.clips] == ["test", "train", "train"]
    assert [(clip.start, clip.end) for clip in source.clips] == [(None, None), (30.0, 40.0), (None, None)]
    *_, bad = read_source(lay_out(tmp_path, "vggsound.csv", VGGSOUND, *files), "vggsound").clips
    assert "line 4: it has 3 cells" in bad.error


def test_kinetics_has_sections_a_class_and_a_split(tmp_path):
    text = "label,youtube_id,time_start,time_end,split\nzumba,0FKoXoaWFLY,3,13,train\nzumba,--PJHxphWEs,x,13,val\n"
    source = read_source(lay_out(tmp_path, "k400.csv", text, "0FKoXoaWFLY_000003_000013.mp4", "--PJHxphWEs.mp4"))
    assert source.format == "kinetics"
    good, bad = source.clips
    assert (good.labels, good.split, good.start) == (("zumba",), "train", None)
    assert "line 3: start = 'x' is not a number" in bad.error
