from pathlib import Path

import av
import numpy as np
import pytest

from cmmixer_hf.cli import main
from cmmixer_hf.media.reading import probe
from cmmixer_hf.media.soundtrack import read_stereo
from cmmixer_hf.media.writing import write_clip
from cmmixer_hf.search.fit import RATE, RING, lay_under, loudness, parse_place

SECONDS = 6.0


def tone(seconds: float, height: float, level: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * height * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A clip whose own sound stops half-way, and a track that beats twice a second from 0.1 s on."""
    folder = tmp_path_factory.mktemp("fit")
    frames = np.random.default_rng(0).integers(0, 255, (round(SECONDS * 10), 32, 48, 3), np.uint8)
    own = tone(SECONDS, 440, 0.1)
    own[len(own) // 2 :] = 0
    write_clip(folder / "clip.mp4", frames, own, fps=10, sampling_rate=RATE)
    track = 0.01 * tone(20, 3000, 1.0)
    for beat in np.arange(0.1, 19.5, 0.5):
        start = round(beat * RATE)
        track[start : start + 4000] += tone(1, 200, 0.6)[:4000] * np.hanning(4000)
    write_clip(folder / "track.m4a", None, track, sampling_rate=RATE)
    return folder / "clip.mp4", folder / "track.m4a"


def packets(path: Path) -> list[bytes]:
    with av.open(path) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def level(sound: np.ndarray, start: float, end: float) -> float:
    return float(np.sqrt((sound[:, round(start * RATE) : round(end * RATE)] ** 2).mean()))


def test_music_replaces_the_sound_and_ends_on_a_beat(files, tmp_path, capsys):
    clip, track = files
    output = tmp_path / "out.mp4"
    assert main(["fit", str(clip), f"{track}@0:10.3", str(output)]) == 0
    assert "from 0:10, which ends at" in capsys.readouterr().out
    assert packets(output) == packets(clip)  # copied
    assert probe(output).duration == pytest.approx(SECONDS, abs=0.1)
    sound = read_stereo(output, 0.0, SECONDS, RATE)
    end = lay_under(str(clip), str(track), 10.3, str(tmp_path / "again.mp4"))
    assert end - RING == pytest.approx(5.3, abs=0.06)  # a beat, which rings out; the one at 5.8 could not
    assert level(sound, end + 0.1, SECONDS) < 1e-3 < level(sound, end - RING - 0.5, end - RING)
    assert loudness(sound, RATE) == pytest.approx(loudness(read_stereo(clip, 0.0, SECONDS, RATE), RATE), abs=1.0)


def test_music_makes_room_for_what_is_heard(files, tmp_path):
    clip, track = files
    lay_under(str(clip), str(track), 0.0, str(tmp_path / "new" / "folder" / "ducked.mp4"), duck=True, target=-30)
    lay_under(str(clip), str(track), 0.0, str(tmp_path / "alone.mp4"), target=-30)
    own, ducked, alone = (
        read_stereo(path, 0.0, SECONDS, RATE)
        for path in (clip, tmp_path / "new" / "folder" / "ducked.mp4", tmp_path / "alone.mp4")
    )
    assert level(ducked, 3.5, 5) == pytest.approx(level(alone, 3.5, 5), rel=0.1)
    assert level(ducked, 0.5, 2.5) == pytest.approx(level(own, 0.5, 2.5), rel=0.1)
    assert level(ducked - own, 0.5, 2.5) == pytest.approx(level(alone, 0.5, 2.5) / 4, rel=0.4)


def test_a_track_that_is_too_short_is_followed_by_silence(files, tmp_path):
    clip, track = files
    end = lay_under(str(clip), str(track), 17.0, str(tmp_path / "short.mp4"))
    assert end <= 3.1
    assert probe(tmp_path / "short.mp4").duration == pytest.approx(SECONDS, abs=0.1)


def test_a_picture_that_mp4_cannot_hold_is_encoded_anew(files, tmp_path):
    _, track = files
    with av.open(tmp_path / "old.avi", "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuvj420p"
        for _ in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48, 3), 90, np.uint8))))
        container.mux(stream.encode(None))
    lay_under(str(tmp_path / "old.avi"), str(track), 0.0, str(tmp_path / "new.mp4"))
    made = probe(tmp_path / "new.mp4")
    assert (made.video_codec, made.width, made.height) == ("h264", 48, 32)
    assert made.duration == pytest.approx(3.0, abs=0.15)


def test_slips_are_one_line(files, tmp_path, capsys):
    clip, track = map(str, files)
    for arguments, message in (
        ([clip, f"{track}@9:00", "out.mp4"], "has no sound after 540 s; choose a start before 20 s"),
        ([clip, "none.ogg@0:10", "out.mp4"], "none.ogg"),
        ([track, track, "out.mp4"], "has no picture"),
        ([clip, track, clip], "is one of the files that are read"),
        ([clip, track, "out.mp4", "--loudness", "nan"], "--loudness is a number of LUFS such as -16, got nan"),
        ([clip, track, f"{track}/out.mp4"], f"File exists: '{track}'"),
    ):
        assert main(["fit", *arguments]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert len(error.splitlines()) == 1
    assert not Path("out.mp4").exists()


def test_a_file_with_such_a_name_is_taken_by_its_name(tmp_path):
    (tmp_path / "live@0:30").touch()
    assert parse_place(str(tmp_path / "live@0:30")) == (str(tmp_path / "live@0:30"), 0.0)
    assert parse_place("live.ogg@30") == ("live.ogg", 30.0)
