import os
import pickle
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cmmixer_hf import decoding, media, opening
from cmmixer_hf.media import MediaError, Sampling, probe, read_clip, read_frames, read_windows, segment_midpoints

FPS, RATE, SECONDS = 25, 48000, 6
HEIGHT, WIDTH = 96, 160
NATURAL = Path(__file__).parents[2] / "shared/data/video/natural"
ODD = NATURAL.parent / "odd"


def numbered_frame(number: int) -> np.ndarray:
    """A picture with its number written in eight large black or white blocks over a texture that moves."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    picture = np.stack([(x * 2 + number * 3) % 200, (y * 2 + number) % 200, (x + y) % 200], axis=2).astype(np.uint8)
    for bit in range(8):
        picture[:40, bit * 20 : bit * 20 + 20] = 255 * (number >> bit & 1)
    return picture


def number_of(picture: np.ndarray) -> int:
    height, width = picture.shape[0] * 40 // HEIGHT, picture.shape[1] // 8
    blocks = [picture[height // 4 : height // 2, b * width + 4 : (b + 1) * width - 4].mean() for b in range(8)]
    return sum(int(value > 128) << bit for bit, value in enumerate(blocks))


def chirp(seconds: np.ndarray) -> np.ndarray:
    """A tone that rises all the time, so that every instant sounds different."""
    return 0.5 * np.sin(2 * np.pi * (200 * seconds + 0.5 * 500 * seconds**2))


def heard_at(window: np.ndarray, near: float, rate: int = 16000) -> float:
    """The instant of the chirp in the middle of a window, looked for within 0.15 s."""
    reach, size = round(0.15 * rate), len(window)
    instants = near + (np.arange(size + 2 * reach) - size / 2 - reach) / rate
    spectra = np.fft.rfft(chirp(instants)) * np.conj(np.fft.rfft(window, len(instants)))
    scores = np.fft.irfft(spectra, len(instants))[: 2 * reach + 1]  # the lags that do not wrap around
    return near + (int(np.argmax(scores)) - reach) / rate


def write(path, video=None, audio=None, *, seconds=SECONDS, stamps=None, delay=0.0, rate=RATE, layout="stereo", **more):
    """Write numbered frames and a chirp; `video` and `audio` are a codec or (codec, options)."""
    names = [(c, {}) if isinstance(c, str) else c for c in (video, audio)]
    with av.open(str(path), "w", format=more.get("format"), options=more.get("options", {})) as container:
        picture = sound = None
        if video:
            picture = container.add_stream(names[0][0], rate=FPS, options=names[0][1])
            picture.width, picture.height, picture.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            if stamps is not None:
                picture.codec_context.time_base = Fraction(1, 100)
        if audio:
            sound = container.add_stream(names[1][0], rate=rate, options=names[1][1], layout=layout)
        base, stamps = (Fraction(1, FPS), range(round(seconds * FPS))) if stamps is None else (Fraction(1, 100), stamps)
        blocks = list(range(0, round(seconds * rate), rate // FPS)) if audio else []
        for number in range(max(len(stamps) if video else 0, len(blocks))):
            if picture and number < len(stamps):
                frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
                frame.pts, frame.time_base = int(stamps[number]), base
                container.mux(picture.encode(frame))
            if sound and number < len(blocks):
                instants = (blocks[number] + np.arange(min(rate // FPS, round(seconds * rate) - blocks[number]))) / rate
                wave = np.tile(chirp(instants + delay), (sound.layout.nb_channels, 1)).astype(np.float32)
                piece = av.AudioFrame.from_ndarray(wave, "fltp", layout)
                piece.sample_rate, piece.time_base = rate, Fraction(1, rate)
                piece.pts = blocks[number] + round(delay * rate)
                container.mux(sound.encode(piece))
        for stream in filter(None, (picture, sound)):
            container.mux(stream.encode(None))
    return path


LONG_GOP = ("libx264", {"g": "250", "bf": "3", "preset": "fast", "b_strategy": "0", "sc_threshold": "0"})
SHORT_GOP = ("libx264", {"g": "12", "bf": "2", "preset": "veryfast"})
OPEN_GOP = ("libx265", {"x265-params": "keyint=24:min-keyint=24:open-gop=1:bframes=4:log-level=none"})
VP9 = ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "60"})
# What a file starts with besides the chirp, in seconds: an encoder's run-up where the format cannot leave it out.
RUN_UP = 1024 / RATE
FILES = {
    "long.mp4": (LONG_GOP, "aac", {}, 0.0),
    "short.mp4": (SHORT_GOP, "aac", {}, 0.0),
    "hevc.mp4": (OPEN_GOP, "aac", {}, 0.0),
    "vp9.webm": (VP9, "libopus", {}, 0.0),
    "live.webm": (VP9, "libopus", {"options": {"live": "1"}}, 0.0),
    "h264.mkv": (SHORT_GOP, "libmp3lame", {}, 0.0),
    "long.ts": (LONG_GOP, "aac", {"format": "mpegts"}, RUN_UP),
    "short.ts": (SHORT_GOP, "aac", {"format": "mpegts"}, RUN_UP),
    "hevc.ts": (OPEN_GOP, "aac", {"format": "mpegts"}, RUN_UP),
    "fragmented.mp4": (SHORT_GOP, "aac", {"options": {"movflags": "frag_keyframe+empty_moov"}}, 2 / FPS),
    "mpeg2.mpg": ("mpeg2video", "mp2", {"format": "mpeg"}, None),
    "h264.avi": (LONG_GOP, "libmp3lame", {}, None),
    "h264.flv": (SHORT_GOP, "aac", {}, RUN_UP),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Path of a file of FILES, written when first asked for."""
    folder = tmp_path_factory.mktemp("media")

    def get(name: str) -> Path:
        path = folder / name
        if not path.exists():
            video, audio, more, _ = FILES[name]
            write(path, video, audio, **more)
        return path

    return get


@pytest.mark.parametrize("name", FILES)
def test_frames_and_windows_belong_to_their_instants_and_to_each_other(files, name):
    clip, info = read_clip(files(name)), probe(files(name))
    assert clip.frames.shape == (8, HEIGHT, WIDTH, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.waveforms.shape == (8, 41600)
    assert clip.waveforms.dtype == np.float32
    assert np.abs(clip.waveforms).max() <= 1
    assert clip.duration == info.duration == pytest.approx(SECONDS, abs=0.15)
    inner = slice(2, 6)  # the outer windows are shifted
    offsets = [t - heard_at(window, t) for t, window in zip(clip.times[inner], clip.waveforms[inner], strict=True)]
    assert np.ptp(offsets) < 1e-3
    expected = FILES[name][3]
    assert expected is None or abs(np.mean(offsets) - expected) < 1e-3
    numbers = np.array([number_of(frame) for frame in clip.frames])
    late = 0.0 if name.endswith("avi") else np.mean(offsets)  # AVI cannot say that its sound starts early
    np.testing.assert_array_equal(numbers, np.floor((clip.times - late) * FPS + 0.02))


@pytest.mark.parametrize("name", FILES)
def test_any_order_of_instants_gives_the_frames_of_one_pass(files, name):
    path = files(name)
    times = np.random.default_rng(0).uniform(0, SECONDS - 0.1, 24)
    ordered = read_frames(path, np.sort(times))
    shuffled = read_frames(path, times)
    np.testing.assert_array_equal(shuffled[np.argsort(times)], ordered)
    with av.open(str(path)) as container:
        origin = min(float(s.start_time * s.time_base) for s in container.streams)
        frames = list(container.decode(video=0))
    stamps = np.arange(len(frames)) / FPS if name.endswith("avi") else [float(f.time) - origin for f in frames]
    places = np.maximum(np.searchsorted(stamps, times + decoding.TICK, side="right") - 1, 0)
    assert [number_of(picture) for picture in shuffled] == places.tolist()


def test_frames_at_exact_stamps_and_before_the_first(files):
    times = [n / FPS for n in (0, 7, 33, 149)]
    assert [number_of(frame) for frame in read_frames(files("long.mp4"), [*times, -1.0])] == [0, 7, 33, 149, 0]


@pytest.mark.parametrize("gaps", [(1, 8), (40, 130)], ids=["uneven", "slides"])
def test_variable_frame_rate_follows_the_stamps(tmp_path, gaps):
    stamps = np.cumsum(np.random.default_rng(1).integers(*gaps, 60)) - 1
    path = write(tmp_path / "vfr.mp4", LONG_GOP, stamps=stamps - stamps[0])
    times = np.random.default_rng(2).uniform(0, (stamps[-1] - stamps[0]) / 100, 40)
    expected = np.searchsorted((stamps - stamps[0]) / 100, times, side="right") - 1
    assert [number_of(frame) for frame in read_frames(path, times)] == expected.tolist()


# Matrix of ISO/IEC 14496-12, (x, y) -> (a x + c y, b x + d y) with y downward, and the turn that it asks for.
@pytest.mark.parametrize(
    ("matrix", "turns"), [((0, 1, -1, 0), -1), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)], ids=["90", "180", "270"]
)
def test_rotation_is_applied(files, tmp_path, matrix, turns):
    data = bytearray(files("short.mp4").read_bytes())
    place = data.index(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 20] = struct.pack(">5i", a, b, 0, c, d)
    path = tmp_path / "turned.mp4"
    path.write_bytes(data)
    upright = read_frames(files("short.mp4"), [1.0, 3.0])
    np.testing.assert_array_equal(read_frames(path, [1.0, 3.0]), np.rot90(upright, turns, axes=(1, 2)))
    assert min(read_frames(path, [1.0], shorter_side=48).shape[1:3]) == 48


def test_shorter_side_scales_down_only(files):
    path = files("short.mp4")
    assert read_frames(path, [1.0], shorter_side=48).shape == (1, 48, 80, 3)
    assert number_of(read_frames(path, [1.0], shorter_side=48)[0]) == FPS
    np.testing.assert_array_equal(read_frames(path, [1.0], shorter_side=500), read_frames(path, [1.0]))


SOUNDS = [
    ("a.wav", "pcm_s16le", 44100, "stereo"),
    ("a.mp3", "libmp3lame", 44100, "stereo"),
    ("m.mp3", "libmp3lame", RATE, "mono"),
    ("16k.mp3", "libmp3lame", 16000, "mono"),
    ("a.flac", "flac", RATE, "mono"),
    ("a.m4a", "aac", RATE, "5.1"),
    ("8k.wav", "pcm_s16le", 8000, "mono"),
    ("a.ogg", "libopus", RATE, "stereo"),
]


@pytest.mark.parametrize(("name", "codec", "rate", "layout"), SOUNDS, ids=[name for name, *_ in SOUNDS])
def test_sound_files(tmp_path, name, codec, rate, layout):
    path = write(tmp_path / name, audio=codec, rate=rate, layout=layout)
    info = probe(path)
    assert (info.has_video, info.has_audio, info.sampling_rate) == (False, True, rate)
    assert info.duration == pytest.approx(SECONDS, abs=0.06)
    clip = read_clip(path, video=False)
    assert clip.frames is None
    for t, window in zip(clip.times[2:6], clip.waveforms[2:6], strict=True):
        assert heard_at(window, t) == pytest.approx(t, abs=1e-3)
    with pytest.raises(MediaError, match="no video stream"):
        read_clip(path)


@pytest.mark.parametrize("name", ["long.mp4", "short.ts", "vp9.webm", "h264.mkv"])
def test_section_of_a_file(files, name):
    whole = read_windows(files(name), [3.0])[0]
    clip = read_clip(files(name), Sampling(num_frames=3), start=3.4, end=4.9)
    assert clip.duration == pytest.approx(1.5)
    np.testing.assert_allclose(clip.times, [3.65, 4.15, 4.65])
    late = 3.0 - heard_at(whole, 3.0)
    heard = clip.waveforms[:, :24000]  # the section is shorter than a window: all of it, then silence
    assert heard_at(heard[0], 4.15) == pytest.approx(4.15 - late, abs=1.1e-3)  # WebM rounds stamps to 1 ms
    np.testing.assert_array_equal(heard[0], heard[2])
    assert not clip.waveforms[:, 24001:].any()
    expected = read_frames(files(name), clip.times)
    np.testing.assert_array_equal(clip.frames, expected)
    with pytest.raises(MediaError, match="nothing from 7"):
        read_clip(files(name), start=7.0)
    assert read_clip(files(name), start=3.0, end=99.0).duration == pytest.approx(3.0, abs=0.15)


def test_windows_are_shifted_inward_at_the_edges(files):
    path = files("long.mp4")
    edge = read_windows(path, [0.0, 0.5, 1.3, 4.75, 5.9, 60.0])
    np.testing.assert_array_equal(edge[0], edge[2])
    np.testing.assert_array_equal(edge[1], edge[2])
    np.testing.assert_array_equal(edge[4], edge[5])
    assert heard_at(edge[0], 1.3) == pytest.approx(1.3, abs=1e-3)
    assert heard_at(edge[4], 4.7) == pytest.approx(4.7, abs=0.03)  # AAC rounds the end up to a frame
    assert heard_at(read_windows(path, [60.0])[0], 4.7) == pytest.approx(heard_at(edge[5], 4.7), abs=1e-4)


def test_sound_that_starts_later_stays_in_step(tmp_path):
    path = write(tmp_path / "late.mp4", SHORT_GOP, "aac", delay=0.7, seconds=5)
    clip = read_clip(path)
    # Shifted inward to 0.7 s, or a frame earlier: the encoder's run-up is silent sound.
    assert heard_at(clip.waveforms[0], 2.0) == pytest.approx(2.0 - RUN_UP / 2, abs=RUN_UP)
    assert heard_at(clip.waveforms[4], clip.times[4]) == pytest.approx(clip.times[4], abs=1e-3)
    assert [number_of(frame) for frame in clip.frames[:6]] == np.floor(clip.times[:6] * FPS).tolist()


def test_other_window_and_rate(files):
    windows = read_windows(files("short.mp4"), [2.0, 3.0], window_seconds=0.975, sampling_rate=22050)
    assert windows.shape == (2, round(0.975 * 22050))
    assert heard_at(windows[1], 3.0, 22050) == pytest.approx(3.0, abs=1e-3)


def test_short_clip_is_padded_with_zeros_at_the_end(tmp_path):
    path = write(tmp_path / "short.mkv", SHORT_GOP, "pcm_s16le", seconds=0.32)
    clip = read_clip(path)
    assert clip.frames.shape[0] == 8
    assert [number_of(frame) for frame in clip.frames] == np.floor(clip.times * FPS).tolist()
    assert clip.waveforms[:, 16 : round(0.3 * 16000)].any(axis=1).all()
    assert not clip.waveforms[:, round(0.34 * 16000) :].any()


def test_missing_streams(tmp_path, files):
    silent = write(tmp_path / "silent.mp4", SHORT_GOP, seconds=1)
    assert not probe(silent).has_audio
    assert read_clip(silent, audio=False).waveforms is None
    for read in (read_clip, lambda path: read_windows(path, [0.5])):
        with pytest.raises(MediaError, match=r"silent\.mp4: has no audio stream; .*audio=False"):
            read(silent)


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "cover.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        wave = chirp(np.arange(RATE) / RATE).astype(np.float32)[None]
        piece = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        piece.sample_rate = RATE
        container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    assert not probe(path).has_video
    assert probe(path).duration == pytest.approx(1.0, abs=0.06)


def cut(path: Path, target: Path) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: len(data) // 2])
    return target


@pytest.mark.parametrize("wanted", [{}, {"audio": False}, {"video": False}], ids=["both", "video", "audio"])
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_file_cut_in_half_is_reported_not_padded(tmp_path, files, kind, wanted):
    if kind == "mp4":
        whole = write(tmp_path / "whole.mp4", SHORT_GOP, "aac", options={"movflags": "faststart"})
    else:
        whole = files("vp9.webm")
    path = cut(whole, tmp_path / f"cut.{kind}")
    with pytest.raises(MediaError, match=rf"cut\.{kind}: truncated"):
        read_clip(path, **wanted)
    early = read_clip(path, Sampling(num_frames=2, window_seconds=0.5), start=0.5, end=1.5, **wanted)
    assert early.frames is None or [number_of(frame) for frame in early.frames] == [18, 31]


def test_picture_may_end_a_little_early_but_not_by_much(tmp_path):
    for missing, works in ((8, True), (50, False)):
        frames = np.stack([numbered_frame(n) for n in range(SECONDS * FPS - missing)])
        wave = chirp(np.arange(SECONDS * 16000) / 16000).astype(np.float32)
        path = tmp_path / f"{missing}.mp4"
        media.write_clip(path, frames, wave, fps=FPS)
        if works:
            assert number_of(read_frames(path, [SECONDS - 0.05])[0]) == len(frames) - 1
        else:
            with pytest.raises(MediaError, match="truncated"):
                read_frames(path, [SECONDS - 0.05])


def test_duration_is_not_taken_from_a_lying_header(files, tmp_path):
    data = bytearray(files("short.mp4").read_bytes())
    place = data.index(b"mvhd") + 20
    data[place : place + 4] = struct.pack(">I", 1_000_000)
    path = tmp_path / "liar.mp4"
    path.write_bytes(data)
    assert probe(path).duration == pytest.approx(SECONDS, abs=0.1)
    np.testing.assert_array_equal(read_clip(path).frames[0], read_clip(files("short.mp4")).frames[0])


@pytest.mark.parametrize(("name", "codec"), [("raw.aac", "aac"), ("raw.mp3", ("libmp3lame", {"qscale": "4"}))])
def test_untimed_stream_is_counted_not_guessed_from_its_first_bit_rate(tmp_path, name, codec):
    quiet = write(tmp_path / name, audio=codec, options={"write_xing": "0"} if name == "raw.mp3" else {}, layout="mono")
    loud = write(tmp_path / f"loud-{name}", audio=codec, layout="5.1" if name == "raw.aac" else "stereo")
    joined = tmp_path / f"joined-{name}"
    joined.write_bytes(quiet.read_bytes() + loud.read_bytes())
    assert probe(joined).duration == pytest.approx(2 * SECONDS, abs=0.15)


def test_not_media(tmp_path, files):
    (tmp_path / "text.mp4").write_text("this is no film\n" * 50)
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{files('long.ts')}\n#EXT-X-ENDLIST\n"
    )
    (tmp_path / "list.mp4").write_text((tmp_path / "list.m3u8").read_text())
    reasons = {
        "text.mp4": "damaged, truncated or not",
        "empty.mp4": "is empty",
        "pipe.mp4": "a pipe",
        "list.m3u8": "not a known media file",
        "list.mp4": "not a known media file",
        "missing.mp4": "No such file",
        "": "is a folder",
    }
    for name, reason in reasons.items():
        for read in (probe, read_clip, lambda path: read_frames(path, [0.0])):
            with pytest.raises(MediaError, match=reason) as caught:
                read(tmp_path / name)
            assert caught.value.path == str(tmp_path / name)
            assert caught.value.advice
            assert "\n" not in str(caught.value)
    for address in ("https://example.org/a.mp4", "file:///etc/passwd"):
        with pytest.raises(MediaError, match="address"):
            probe(address)


def test_error_survives_pickling():
    error = MediaError("a.mp4", "is\nempty", "fetch it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MediaError
    assert (again.path, again.reason, again.advice) == ("a.mp4", "is\nempty", "fetch it again")
    assert str(again) == str(error) == "a.mp4: is empty; fetch it again"


def test_large_pictures_are_refused_before_decoding(files, monkeypatch):
    path = files("short.mp4")
    monkeypatch.setattr(opening, "MAX_PIXELS", HEIGHT * WIDTH - 1)
    with pytest.raises(MediaError, match="too large"):
        probe(path)


def test_sound_that_is_not_finite_is_refused(tmp_path):
    path = tmp_path / "nan.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=16000, layout="mono")
        wave = np.full((1, 16000), np.nan, np.float32)
        piece = av.AudioFrame.from_ndarray(wave, "flt", "mono")
        piece.sample_rate = 16000
        container.mux(stream.encode(piece))
    with pytest.raises(MediaError, match="NaN"):
        read_windows(path, [0.5])


def clip_or_error(path: Path, sampling: Sampling):
    try:
        return read_clip(path, sampling), None
    except MediaError as error:
        return None, error


@pytest.mark.parametrize("name", ["short.mp4", "vp9.webm", "short.ts"])
def test_damaged_files_decode_or_raise_media_error(files, tmp_path, name):
    data, draw = files(name).read_bytes(), np.random.default_rng(3)
    for turn in range(12):
        damaged = np.frombuffer(data, np.uint8).copy()
        head = len(damaged) if turn % 2 else min(len(damaged), 4096)
        damaged[draw.integers(0, head, 40)] = draw.integers(0, 256, 40)
        path = tmp_path / f"{turn}-{name}"
        path.write_bytes(damaged.tobytes())
        clip, error = clip_or_error(path, Sampling(num_frames=3))
        assert error.path == str(path) if error else np.isfinite(clip.waveforms).all()


def test_written_clip_reads_back(tmp_path):
    frames = np.stack([numbered_frame(n) for n in range(50)])
    wave = chirp(np.arange(2 * 16000) / 16000).astype(np.float32)
    for name, sound in (("mono.mp4", wave), ("stereo.mp4", np.stack([wave, wave]))):
        media.write_clip(tmp_path / name, frames, sound, fps=FPS)
        info = probe(tmp_path / name)
        assert (info.video_codec, info.audio_codec, info.fps, info.sampling_rate) == ("h264", "aac", FPS, 16000)
        assert (info.width, info.height, info.channels) == (WIDTH, HEIGHT, sound.ndim)
        clip = read_clip(tmp_path / name, Sampling(num_frames=4, window_seconds=0.4))
        assert [number_of(frame) for frame in clip.frames] == np.floor(clip.times * FPS).tolist()
        for t, window in zip(clip.times, clip.waveforms, strict=True):
            assert heard_at(window, t) == pytest.approx(t, abs=1e-3)
    media.write_clip(tmp_path / "sound.m4a", None, wave)
    media.write_clip(tmp_path / "picture.mp4", frames, None, fps=FPS)
    assert (probe(tmp_path / "sound.m4a").has_video, probe(tmp_path / "picture.mp4").has_audio) == (False, False)
    assert sorted(os.listdir(tmp_path)) == ["mono.mp4", "picture.mp4", "sound.m4a", "stereo.mp4"]


def test_failed_writing_leaves_nothing_behind(tmp_path):
    with pytest.raises(ValueError, match="even"):
        media.write_clip(tmp_path / "odd.mp4", np.zeros((2, 33, 32, 3), np.uint8), None)
    with pytest.raises(ValueError, match="neither"):
        media.write_clip(tmp_path / "none.mp4", None, None)
    with pytest.raises(KeyError):
        media.write_clip(tmp_path / "many.mp4", None, np.zeros((7, 100), np.float32))
    assert not os.listdir(tmp_path)


def test_wrong_arguments(files):
    path = files("short.mp4")
    for call in (
        lambda: segment_midpoints(0.0, 8),
        lambda: segment_midpoints(1.0, 0),
        lambda: Sampling(num_frames=0),
        lambda: Sampling(window_seconds=float("nan")),
        lambda: read_frames(path, []),
        lambda: read_frames(path, [float("nan")]),
        lambda: read_windows(path, [1.0], sampling_rate=0),
    ):
        with pytest.raises(ValueError, match=r"positive|finite"):
            call()


def test_midpoints_cut_equal_parts():
    times = segment_midpoints(16.0, 8, start=2.0)
    np.testing.assert_allclose(times, 2 + np.arange(1, 16, 2))


def whole_sound(path: Path) -> tuple[float, np.ndarray]:
    """All the sound of a file at 16 kHz, and where it starts on the file's timeline."""
    with av.open(str(path)) as container:
        streams = [container.streams.best("video"), container.streams.best("audio")]
        origin = min(float(s.start_time * s.time_base) for s in streams)
        resampler = av.AudioResampler("fltp", "mono", 16000)
        decoded = list(container.decode(streams[1]))
        parts = [part for frame in [*decoded, None] for part in resampler.resample(frame)]
    return float(decoded[0].time) - origin, np.concatenate([part.to_ndarray()[0] for part in parts])


def natural_files() -> list[Path]:
    return sorted(path for path in NATURAL.glob("*") if path.is_file())


needs_data = pytest.mark.skipif(not NATURAL.is_dir(), reason="needs ../shared/data/video")


@needs_data
def test_every_natural_file():
    for path in natural_files():
        clip = read_clip(path, Sampling(shorter_side=224))
        assert clip.frames.shape[0] == 8, path
        assert clip.waveforms.shape == (8, 41600), path
        assert clip.waveforms.std() > 1e-3, path
        assert min(clip.frames.shape[1:3]) <= 224, path


@needs_data
@pytest.mark.parametrize("name", ["bbaf2n.mpg", "chaplin.mp4", "nasa_13013.mp4", "friday.mp4", "example3.mp4"])
def test_natural_file_equals_one_pass(name):
    path = NATURAL / name
    clip = read_clip(path)
    with av.open(str(path)) as container:
        shown = dict.fromkeys(range(8))
        for frame in container.decode(container.streams.best("video")):
            shown |= {k: frame for k, t in enumerate(clip.times) if frame.time <= t}
    for k, frame in shown.items():
        np.testing.assert_array_equal(clip.frames[k], frame.reformat(format="rgb24").to_ndarray())
    start, sound = whole_sound(path)
    for t, window in zip(clip.times, clip.waveforms, strict=True):
        place = np.clip(round((t - 1.3 - start) * 16000), 0, max(0, len(sound) - 41600))
        expected = np.clip(sound[place : place + 41600], -1, 1)
        np.testing.assert_array_equal(window[: len(expected)], expected)
        assert not window[len(expected) :].any()


@needs_data
def test_odd_files_decode_or_say_why():
    for path in sorted(ODD.iterdir()):
        clip, error = clip_or_error(path, Sampling())
        assert (error.path, error.reason) == (str(path), "has no audio stream") if error else len(clip.waveforms) == 8
        assert len(read_clip(path, audio=False).frames) == 8


@needs_data
def test_seeking_in_old_444_streams_gives_the_frames_of_one_pass():
    path = ODD / "cockatoo.mp4"
    with av.open(str(path)) as container:
        frames = {round(frame.time * 20): frame for frame in container.decode(video=0) if frame.time > 8}
    expected = frames[180].reformat(format="rgb24").to_ndarray()
    np.testing.assert_array_equal(read_frames(path, [9.01])[0], expected)
