"""Damage: a little is passed over and counted, much is an error, a corrupt frame is never shown; the intact stays."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import LONG_GOP, SHORT_GOP, Recipe, chirp, heard_at, numbered_frame, numbers_of, write_media

from cmmixer_hf.media.opening import MOST_DAMAGE
from cmmixer_hf.media.reading import Clip, MediaError, Sampling, probe, read_clip, read_frames

GOP = {"g": "50", "bf": "0", "preset": "veryfast", "sc_threshold": "0"}


def spoil_frames(path: Path, numbers: set[int]) -> Path:
    """Overwrite most of the packets of some frames of an MP4 without B-frames."""
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for number in numbers:
        place, size = packets[number]
        data[place + 20 : place + size] = bytes(k * 7919 % 251 for k in range(size - 20))
    path.with_stem("spoilt").write_bytes(data)
    return path.with_stem("spoilt")


def test_corrupt_frames_are_never_shown(tmp_path):
    whole = write_media(tmp_path / "a.mp4", Recipe("libx264", "aac", GOP, seconds=8))
    path = spoil_frames(whole, {92, 93})  # 3.68 s; the next key frame comes at 4 s
    clip = read_clip(path, Sampling(num_frames=20))
    assert clip.damage == 1  # of 3.8 s
    expected = read_clip(whole, Sampling(num_frames=20)).frames
    held = numbers_of(read_frames(whole, [91 / 25]))
    for number, (shown, right) in enumerate(zip(clip.frames, expected, strict=True)):
        if number == 9:
            assert numbers_of(shown[None]) == held
        else:
            np.testing.assert_array_equal(shown, right)
    assert read_clip(whole).damage == 0


def test_much_damage_is_an_error(tmp_path):
    path = spoil_frames(write_media(tmp_path / "a.mp4", Recipe("libx264", "aac", GOP, seconds=8)), {52, 53, 54, 100})
    with pytest.raises(MediaError, match="its picture is damaged at 4 of 8 instants"):
        read_clip(path)
    with pytest.raises(MediaError, match="damaged at 2 of 2"):
        read_frames(path, [2.2, 4.02])
    assert read_clip(path, start=6.0).damage == 0


def test_the_limit_is_stated_where_clips_are_read():
    assert MOST_DAMAGE == 1 / 4
    for stated in (Clip.__doc__, read_clip.__doc__):
        assert "more than a quarter" in " ".join(stated.split())


def test_of_a_file_that_breaks_off_what_lies_before_is_read(tmp_path):
    whole = write_media(tmp_path / "a.mkv", Recipe("libx264", "libmp3lame", SHORT_GOP))
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    early, expected = (read_clip(path, end=2.0) for path in (tmp_path / "cut.mkv", whole))
    assert early.damage == 0
    np.testing.assert_array_equal(early.frames, expected.frames)
    np.testing.assert_array_equal(early.waveforms, expected.waveforms)
    with pytest.raises(MediaError, match=r"truncated or damaged after 3\.\d s of 6\.0 s"):
        read_clip(tmp_path / "cut.mkv")


@pytest.fixture
def song(tmp_path) -> Path:
    raw = {"options": {"write_xing": "0", "id3v2_version": "0"}}
    return write_media(tmp_path / "one.mp3", Recipe(audio="libmp3lame", rate=44100, container=raw, layout="mono"))


def test_bad_bytes_in_a_song_cost_an_instant(song, tmp_path):
    with av.open(str(song)) as container:
        middle = [packet.pos for packet in container.demux(audio=0) if packet.size][115]  # at 3 s
    data = bytearray(song.read_bytes())
    data[middle + 4 : middle + 54] = b"\x55" * 50
    path = tmp_path / "bad.mp3"
    path.write_bytes(data)
    clip, whole = (read_clip(file, video=False) for file in (path, song))
    assert 1 <= clip.damage <= 3
    assert whole.damage == 0
    for number in (2, 6):
        t = clip.times[number]
        assert heard_at(clip.waveforms[number], t) == pytest.approx(heard_at(whole.waveforms[number], t), abs=1e-3)


def test_joined_songs_are_read(song, tmp_path):
    path = tmp_path / "two.mp3"
    path.write_bytes(song.read_bytes() * 2)
    assert probe(path).duration == pytest.approx(12, abs=0.2)
    assert read_clip(path, video=False).damage <= 1


def test_sound_that_is_mostly_damaged_is_refused(tmp_path):
    path = write_media(tmp_path / "a.m4a", Recipe(audio="aac"))
    with av.open(str(path)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    data = bytearray(path.read_bytes())
    for place, size in packets[60:200]:
        data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    with pytest.raises(MediaError, match=r"\d s of its sound are damaged"):
        read_clip(path, video=False)


@pytest.mark.parametrize("name", ["longer.mp4", "longer.mkv"])
def test_another_stream_may_be_longer(tmp_path, name):
    """A second track of 20 s beside a picture and a sound of six."""
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options=SHORT_GOP)
        picture.height, picture.width, picture.pix_fmt = 96, 160, "yuv420p"
        tracks = [(container.add_stream("aac", rate=48000, layout="stereo"), 6), (None, 20)]
        tracks[1] = (container.add_stream("aac", rate=48000, layout="mono"), 20)
        tracks[0][0].disposition, tracks[1][0].disposition = av.stream.Disposition.default, av.stream.Disposition(0)
        for number in range(150):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(picture.encode(frame))
        container.mux(picture.encode(None))
        for stream, seconds in tracks:
            wave = chirp(np.arange(48000 * seconds) / 48000).astype(np.float32)[None]
            piece = av.AudioFrame.from_ndarray(wave.repeat(stream.layout.nb_channels, 0), "fltp", stream.layout.name)
            piece.sample_rate = 48000
            container.mux([*stream.encode(piece), *stream.encode(None)])
    assert probe(path).duration == pytest.approx(6, abs=0.1)
    clip = read_clip(path, Sampling(num_frames=3))
    assert numbers_of(clip.frames) == [25, 75, 125]


def test_held_last_frame(tmp_path):
    """A screen recording: the picture stands still for the last four of six seconds."""
    recipe = Recipe("libx264", "flac", LONG_GOP, stamps=tuple(np.arange(50) / 25))
    path = write_media(tmp_path / "held.mkv", recipe)
    assert numbers_of(read_clip(path, Sampling(num_frames=3)).frames) == [25, 49, 49]
