import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import SHARED, write_noise_clip

from cmmixer_hf import CMMixerConfig, CMMixerFeatureExtractor
from cmmixer_hf.cli import main
from cmmixer_hf.data.batches import SourceError, unpack_frames, unpack_waveforms
from cmmixer_hf.data.preparation import PrepareSettings, find_media, prepare, recipe_of, shard_of, split_clips
from cmmixer_hf.data.prepared_clips import load_prepared
from cmmixer_hf.data.recipes import Recipe
from cmmixer_hf.data.sources.source import read_source
from cmmixer_hf.media.processing_cmmixer import clip_sampling
from cmmixer_hf.media.reading import Sampling


def rows(folder):
    """All rows of a prepared folder, those with errors too."""
    return [row for path in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_a_clip_is_sampled_alike_by_default_wherever_that_is_said():
    """Flags stand where nothing is imported, and an extractor's are saved: each says it, and none otherwise."""
    recipe = recipe_of(PrepareSettings("clips", "prepared"))
    assert recipe == Recipe(Sampling(shorter_side=256))
    assert clip_sampling(CMMixerFeatureExtractor(), 256) == recipe.sampling
    assert CMMixerConfig().num_frames == recipe.sampling.num_frames


def test_shards_keep_all_clips_in_order(clip_files, sampling, tmp_path):
    prepared = prepare(clip_files, tmp_path / "out", Recipe(sampling, clips_per_shard=4), progress=False)
    assert (prepared.num_clips, prepared.errors) == (6, [])
    assert load_prepared(tmp_path / "out")["clip_id"] == [f"clip{number}" for number in range(6)]


def test_a_broken_clip_is_named_and_left_out(clip_files, sampling, tmp_path):
    broken, mute = tmp_path / "broken.mp4", write_noise_clip(tmp_path / "mute.mp4", 9, sound=False)
    broken.write_bytes(clip_files[0].read_bytes()[:1000])
    prepared = prepare([*clip_files, broken, mute], tmp_path / "out", sampling, progress=False)
    assert prepared.num_clips == 6
    assert [path for path, _ in prepared.errors] == [str(broken), str(mute)]
    assert all(path in reason for path, reason in prepared.errors)
    assert len(load_prepared(tmp_path / "out")) == 6
    listed = (tmp_path / "out" / "errors.csv").read_text().splitlines()
    assert listed[0] == "clip_id,path,reason"
    assert [line.split(",")[1] for line in listed[1:]] == [str(broken), str(mute)]


def test_fail_stops_at_a_broken_clip_and_skip_goes_on(clip_files, sampling, tmp_path):
    (tmp_path / "broken.mp4").write_text("not a video")
    clips = [*clip_files[:2], tmp_path / "broken.mp4", *clip_files[2:]]
    with pytest.raises(SourceError, match=r"broken\.mp4.*--on_error skip"):
        prepare(clips, tmp_path / "out", Recipe(sampling, on_error="fail", clips_per_shard=2), progress=False)
    assert [path.name for path in sorted((tmp_path / "out").glob("*part-*"))] == ["part-00000.parquet"]
    prepared = prepare(clips, tmp_path / "out", Recipe(sampling, clips_per_shard=2), progress=False)
    assert (prepared.num_clips, len(prepared.errors)) == (6, 1)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_any_number_of_jobs_and_processes_leaves_the_same_bytes(clip_files, sampling, tmp_path, num_workers):
    recipe = Recipe(sampling, clips_per_shard=2)
    whole = prepare(clip_files, tmp_path / "whole", recipe, progress=False)
    for job in (2, 0, 1):
        part = prepare(clip_files, tmp_path / "parts", recipe, num_workers=num_workers, shard=(job, 3), progress=False)
    assert (part.num_clips, part.missing_shards) == (whole.num_clips, 0)
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "parts").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()


def test_jobs_say_what_is_missing_and_loading_waits_for_it(clip_files, sampling, tmp_path):
    recipe = Recipe(sampling, clips_per_shard=2)
    assert prepare(clip_files, tmp_path, recipe, shard=(1, 3), progress=False).missing_shards == 2
    with pytest.raises(SourceError, match="not finished"):
        load_prepared(tmp_path)
    with pytest.raises(SourceError, match="no job 3 of 3"):
        prepare(clip_files, tmp_path, recipe, shard=(3, 3), progress=False)


def test_what_is_finished_is_not_done_again(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path / "out", sampling, progress=False)
    first = (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns
    assert prepare(clip_files, tmp_path / "out", sampling, progress=False).num_clips == 6
    assert (tmp_path / "out" / "part-00000.parquet").stat().st_mtime_ns == first


def test_another_source_is_refused_unless_restarted(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path / "out", Recipe(sampling, clips_per_shard=2), progress=False)
    with pytest.raises(SourceError, match="other files or settings"):
        prepare(clip_files, tmp_path / "out", Sampling(num_frames=3), progress=False)
    (tmp_path / "out" / "mine.txt").touch()
    assert prepare(clip_files[:2], tmp_path / "out", sampling, restart=True, progress=False).num_clips == 2
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["shards"] == 1
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["errors.csv", "mine.txt", "part-00000.parquet", "prepared.json"]


def test_a_file_that_changed_is_another_source(tmp_path, sampling):
    write_noise_clip(tmp_path / "a.mp4", 0)
    prepare([tmp_path / "a.mp4"], tmp_path / "out", sampling, progress=False)
    write_noise_clip(tmp_path / "a.mp4", 1, seconds=4)
    with pytest.raises(SourceError, match="other files or settings"):
        prepare([tmp_path / "a.mp4"], tmp_path / "out", sampling, progress=False)


def test_shards_without_a_claim_are_not_taken_for_ours(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path, sampling, progress=False)
    (tmp_path / "prepared.json").unlink()
    with pytest.raises(SourceError, match=r"without a prepared\.json"):
        prepare(clip_files, tmp_path, sampling, progress=False)


def test_sources_that_cannot_work_say_so(tmp_path, sampling):
    with pytest.raises(SourceError, match="not a folder"):
        find_media(tmp_path / "nowhere")
    with pytest.raises(SourceError, match="holds no media file"):
        find_media(tmp_path)
    with pytest.raises(SourceError, match="no prepared clips"):
        load_prepared(tmp_path)
    (tmp_path / "broken.mp4").write_text("not a video")
    with pytest.raises(SourceError, match=r"none of the 1 files is usable.*broken\.mp4"):
        prepare(find_media(tmp_path), tmp_path / "out", sampling, progress=False)
    with pytest.raises(SourceError, match="--need audio"):
        prepare(find_media(tmp_path), tmp_path / "out", sampling, progress=False)


def test_a_row_can_be_read_alone(clip_files, sampling, tmp_path):
    prepare(clip_files, tmp_path, sampling, progress=False)
    shard = pq.ParquetFile(tmp_path / "part-00000.parquet")
    assert shard.num_row_groups == 6
    assert shard.read_row_group(3)["clip_id"].to_pylist() == ["clip3"]


def test_bytes_per_clip_are_as_documented(clip_files, tmp_path):
    sampling = Sampling(num_frames=3, shorter_side=32)
    prepare(clip_files, tmp_path, sampling, progress=False)
    size = (tmp_path / "part-00000.parquet").stat().st_size / 6
    content = 3 * 32 * 32 * 3 + 3 * 41600 * 2  # frames, sound
    assert content < size < content + 4000


def test_a_dry_run_shows_a_table_and_writes_nothing(clip_files, tmp_path, capsys):
    assert main(["prepare", str(clip_files[0].parent), str(tmp_path / "out"), "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "h264 6" in shown
    assert "aac 6" in shown
    assert not (tmp_path / "out").exists()


def test_splits_and_duplicates_from_the_command_line(clip_files, tmp_path, capsys):
    library = tmp_path / "library"
    library.mkdir()
    for file in clip_files:
        (library / file.name).write_bytes(file.read_bytes())
    (library / "copy.mp4").write_bytes(clip_files[3].read_bytes())
    flags = ["--deduplicate", "--splits", "train=0.5,test=0.5", "--num_frames", "2"]
    assert main(["prepare", str(library), str(tmp_path / "out"), *flags]) == 0
    shown = capsys.readouterr().out
    assert "copy.mp4 has the same content as" in shown
    made = rows(tmp_path / "out")
    assert sorted(row["clip_id"] for row in made) == [f"clip{number}" for number in range(6)]
    assert sorted(row["split"] for row in made) == ["test"] * 3 + ["train"] * 3


@pytest.mark.parametrize("shares", ["train", "train=1,test=0", "train=a,test=b", "train=0.5,test=0.4"])
def test_shares_that_cannot_be_are_refused(clip_files, shares):
    clips = list(read_source(str(clip_files[0].parent)).clips)
    with pytest.raises(SourceError, match=r"train=0\.8,test=0\.2"):
        split_clips(clips, shares)


def test_splits_of_the_source_are_not_overwritten(clip_files, tmp_path):
    (tmp_path / "m.csv").write_text(f"video,split\n{clip_files[0]},train\n")
    with pytest.raises(SourceError, match="splits of its own"):
        split_clips(list(read_source(str(tmp_path / "m.csv")).clips), "train=0.5,test=0.5")


@pytest.mark.parametrize("text", ["1", "a/b", "1/2/3"])
def test_a_shard_is_two_numbers(text):
    with pytest.raises(SourceError, match="expected i/n"):
        shard_of(text)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--jpeg_quality", "95"], "JPEG quality is 1"),
        (["--num_frames", "0"], "num_frames must be positive"),
        (["--clips_per_shard", "0"], "at least one clip"),
        (["--shard", "4/4"], "no job 4 of 4"),
        (["--num_workers", "-1"], "num_workers must be 0"),
    ],
)
def test_settings_that_cannot_be_are_one_line(clip_files, tmp_path, capsys, flags, message):
    assert main(["prepare", str(clip_files[0].parent), str(tmp_path / "out"), *flags]) == 1
    assert message in capsys.readouterr().err


def test_every_real_video_is_prepared_or_named(real_videos, tmp_path, capsys):
    small = ["--num_frames", "4", "--shorter_side", "64", "--num_workers", "2"]
    assert main(["prepare", str(real_videos), str(tmp_path), *small]) == 0
    shown = capsys.readouterr().out
    table = next(line for line in shown.splitlines() if line.startswith("all"))
    assert table.split()[1] == "27"
    assert "h264 14, mpeg1video 11, vp8 2" in table
    assert table.split()[-3:] == ["0", "3", "0"]  # no picture, no sound, unreadable
    made = {row["clip_id"]: row for row in rows(tmp_path)}
    assert len(made) == 27
    bad = {name: row["error"] for name, row in made.items() if row["error"]}
    mute = {"odd/bt709_full_range", "odd/carphone_pristine", "odd/cockatoo_yuv420"}
    assert {name for name, error in bad.items() if "has no audio stream" in error} == mute
    assert {name for name, error in bad.items() if "silent throughout" in error} == {"odd/cockatoo"}
    assert bad.keys() - mute - {"odd/cockatoo"} <= {"odd/video_with_failing_audio"}
    assert all(unpack_frames(row).float().std() > 5 for name, row in made.items() if name not in bad)


@pytest.mark.parametrize("clips", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_esc10_is_prepared_with_its_folds(tmp_path, clips):
    if not (SHARED / "esc10").is_dir():
        pytest.skip(f"ESC-10 is not here: {SHARED / 'esc10'} does not exist")
    heading, *lines = (SHARED / "esc10" / "manifest.csv").read_text().splitlines()
    chosen = lines[:: len(lines) // clips]
    (tmp_path / "some.csv").write_text("\n".join([heading, *chosen]))
    source = read_source(str(tmp_path / "some.csv"), media=str(SHARED / "esc10"))
    prepare(source.clips, tmp_path / "out", Recipe(Sampling(num_frames=2), need="audio"), progress=False)
    made = load_prepared(tmp_path / "out")
    assert len(made) == clips
    assert set(made["fold"]) == {1, 2, 3, 4, 5}
    assert len({label for (label,) in made["labels"]}) == 10
    assert [(label, fold) for (label,), fold in zip(made["labels"], made["fold"], strict=True)] == [
        (line.split(",")[1], int(line.split(",")[2])) for line in chosen
    ]
    assert made[0]["frames"] is None
    assert unpack_waveforms(made[0]).shape == (2, 41600)
    assert np.abs(unpack_waveforms(made[0]).numpy()).max() > 100
