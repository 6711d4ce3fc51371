import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
from conftest import write_noise_clip

from cmmixer_hf import CMMixerForRetrieval
from cmmixer_hf.cli import main
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.demo.run import DemoSettings, run_demo

pytest.importorskip("faiss", reason="the demo needs faiss-cpu")
pytest.importorskip("matplotlib", reason="the demo needs matplotlib")

QUICK = {"clips": 8, "held_out": 5, "pretraining_samples": 8, "finetuning_samples": 8, "queries": 2}


@pytest.fixture(scope="module")
def demo(demo_folder):
    return demo_folder / "demo" / "seed-0", json.loads((demo_folder / "demo" / "seed-0" / "results.json").read_text())


def test_every_stage_leaves_its_result(demo):
    folder, results = demo
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("clips", "prepared", "pretrained", "retrieval", "index"),
        *("report.html", "results.json", "separation.png"),
    }
    assert len(list((folder / "clips").glob("*.mp4"))) == 13
    assert CMMixerForRetrieval.from_pretrained(folder / "retrieval").config.token_drop_rate == 0.0
    assert results["held_out"] == 5
    assert results["scores"]["trained"]["chance"]["R@1"] == 20.0
    assert set(results["scores"]["untrained"]) == {"video_to_audio", "audio_to_video", "chance"}
    trained, untrained, cue, *cca = results["scores"]
    assert (trained, untrained) == ("trained", "untrained")
    assert cue.endswith((", course", ", level"))
    assert cca == ["all cues, CCA of 8 pairs", "thumbnails, CCA of 8 pairs"]
    assert results["twins"].keys() == {"trained", "untrained"}
    assert all("interval" in score for score in results["twins"]["trained"].values())


def test_the_report_is_one_file_with_everything_in_it(demo):
    page = (demo[0] / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    sounds = re.findall(r"data:audio/mp4;base64,([A-Za-z0-9+/=]+)", page)
    assert len(sounds) == 2 * 5
    assert all(base64.b64decode(sound)[4:8] == b"ftyp" for sound in sounds)
    assert "chance" in page
    assert page.index("What to listen for") < page.index("Scores")


def test_own_clips_go_through_and_are_told_what_they_show(clip_files, tmp_path, capsys):
    whole = QUICK | {"token_drop_rate": 0.5, "pretraining_samples": 0}
    results = run_demo(DemoSettings(output=str(tmp_path / "demo"), videos=str(clip_files[0].parent), **whole))
    assert CMMixerForRetrieval.from_pretrained(tmp_path / "demo" / "retrieval").config.token_drop_rate == 0.5
    printed = capsys.readouterr().out
    assert results["held_out"] == 2
    assert "2 held-out clips say almost nothing" in printed
    assert "100 % by chance" in printed
    assert not results["twins"]


def test_a_clip_without_sound_is_left_out_by_name(clip_files, tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    for file in clip_files[:4]:
        (folder / file.name).symlink_to(file)
    write_noise_clip(folder / "mute.mp4", 0, sound=False)
    run_demo(DemoSettings(output=str(tmp_path / "demo"), videos=str(folder), **QUICK))
    assert re.search(r"left out: .*mute\.mp4.*no audio", capsys.readouterr().out)


def test_folders_that_cannot_work(clip_files, tmp_path):
    def run(folder):
        run_demo(DemoSettings(output=str(tmp_path / "demo"), videos=str(folder), **QUICK))

    empty, unusable, few = (tmp_path / name for name in ("empty", "unusable", "few"))
    for folder in (empty, unusable, few):
        folder.mkdir()
    (unusable / "note.mp4").write_text("not a video")
    (few / "one.mp4").symlink_to(clip_files[0])
    with pytest.raises(SourceError, match="is not a folder"):
        run(tmp_path / "missing")
    with pytest.raises(SourceError, match="holds no media file"):
        run(empty)
    with pytest.raises(SourceError, match="none of the 1 files is usable"):
        run(unusable)
    with pytest.raises(SourceError, match="only 1 clips are usable"):
        run(few)
    assert not (tmp_path / "demo" / "results.json").exists()


@pytest.mark.parametrize(
    "flag", ["--clips=0", "--held_out=1", "--finetuning_samples=0", "--token_drop_rate=2", "--seed=-1"]
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_made(flag, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--output", str(tmp_path / "demo"), flag])
    assert f"cmmixer demo: error: {flag.partition('=')[0].strip('-')} must " in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_full_disk_is_one_line_and_leaves_nothing_half(tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", disk], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        assert main(["demo", "--output", str(disk / "demo"), "--clips", "16", "--held_out", "4"]) == 1
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert "No space left on device" in last
        assert "free some" in last
        assert not [path for path in disk.rglob("*") if path.name.startswith(".")]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_ctrl_c_half_way_and_again(tmp_path):
    arguments = [f"--{name}={value}" for name, value in QUICK.items()]
    command = [sys.executable, "-m", "cmmixer_hf.cli", "demo", f"--output={tmp_path / 'demo'}", *arguments]
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a background shell makes its children deaf
    run = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, preexec_fn=listening)
    while run.poll() is None and len(list(tmp_path.rglob("clip-*.mp4"))) < 3:
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGINT)
    _, error = run.communicate()
    assert run.returncode == 130
    assert "Traceback" not in error
    assert error.strip().splitlines()[-1].startswith("cmmixer: stopped")
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("clip-*.mp4")}
    assert 3 <= len(kept) <= 13
    subprocess.run(command, check=True, capture_output=True)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert (tmp_path / "demo" / "results.json").exists()
