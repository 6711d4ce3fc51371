"""What is opened, what is refused and with which words, and how long a file is."""

import io
import os
import pickle
import struct
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import SHORT_GOP, Recipe, chirp, numbers_of, write_media

from cmmixer_hf.media import opening
from cmmixer_hf.media.reading import MediaError, Sampling, probe, read_clip, read_frames


def test_not_media(tmp_path, media_file):
    (tmp_path / "text.mp4").write_text("this is no film\n" * 50)
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "pipe.mp4")
    reasons = {
        "text.mp4": "damaged, truncated or not",
        "empty.mp4": "is empty",
        "pipe.mp4": "a pipe",
        "link.mp4": "a pipe",
        "/dev/zero": "a device",
        "missing.mp4": "No such file",
        "nul\0byte.mp4": "cannot be read",
        "": "is a folder",
    }
    for name, reason in reasons.items():
        for read in (probe, read_clip, lambda path: read_frames(path, [0.0])):
            with pytest.raises(MediaError, match=reason) as caught:
                read(tmp_path / name)
            assert caught.value.path == str(tmp_path / name)
            assert caught.value.advice
            assert "\n" not in str(caught.value)


# Each of these makes FFmpeg read other files or the network, whatever the file is called.
PLAYLISTS = {
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{path}\n#EXT-X-ENDLIST\n",
    "ffconcat": "ffconcat version 1.0\nfile '{path}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "mpd": '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><BaseURL>{path}'
    "</BaseURL></Period></MPD>\n",
}


@pytest.mark.parametrize("suffix", ["mp4", "m3u8", "ffconcat", "sdp", "mpd"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_file_cannot_lead_to_another_file_or_address(tmp_path, media_file, kind, suffix):
    path = tmp_path / f"list.{suffix}"
    path.write_text(PLAYLISTS[kind].format(path=media_file("short.ts")))
    with pytest.raises(MediaError, match="not a known media file"):
        probe(path)


@pytest.mark.parametrize(
    "address", ["https://example.org/a.mp4", "file:///etc/passwd", "rtsp://127.0.0.1/a", "concat:a.ts|b.ts", "pipe:0"]
)
def test_addresses_and_protocols_are_refused(address):
    with pytest.raises(MediaError, match=r"is an address, not a file; download it first|No such file"):
        probe(address)


@pytest.mark.parametrize(("name", "tag", "protected"), [("short.mp4", b"avc1", b"encv"), ("a.m4a", b"mp4a", b"drms")])
def test_protected_files_are_named_as_such(tmp_path, media_file, name, tag, protected):
    """FFmpeg looks for the codec in a box `frma`, and gives what it cannot know to be noise to that."""
    path, data = tmp_path / "film.mp4", media_file(name).read_bytes()
    place = data.index(tag, data.index(b"stsd"))
    data = data[:place] + protected + data[place + 4 :]
    path.write_bytes(data.replace(b"btrt" + data[data.find(b"btrt") + 4 :][:12], b"sinf\0\0\0\x0cfrma" + tag, 1))
    with pytest.raises(MediaError, match=r"film.mp4: is encrypted \(DRM\); get a copy without protection"):
        probe(path)


def test_error_survives_pickling():
    error = MediaError("a.mp4", "is\nempty", "fetch it again")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MediaError
    assert (again.path, again.reason, again.advice) == ("a.mp4", "is\nempty", "fetch it again")
    assert str(again) == str(error) == "a.mp4: is empty; fetch it again"


def test_large_pictures_are_refused_before_decoding(media_file, monkeypatch):
    monkeypatch.setattr(opening, "MAX_PIXELS", 96 * 160 - 1)
    with pytest.raises(MediaError, match="its picture of 160 x 96 is too large; scale it below 15359 pixels"):
        probe(media_file("short.mp4"))


@pytest.mark.parametrize("rate", [1, 900, 800_000])
def test_absurd_sampling_rates_are_refused(tmp_path, rate):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, rate, 0, "NONE", ""))
        file.writeframes(bytes(100_000))
    with pytest.raises(MediaError, match=rf"sound of {rate} Hz"):
        read_clip(path, video=False)


def test_cover_art_is_no_video(tmp_path):
    path = tmp_path / "cover.mp3"
    with av.open(str(path), "w") as container:
        sound = container.add_stream("libmp3lame", rate=48000, layout="mono")
        cover = container.add_stream("png", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "rgb24"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        piece = av.AudioFrame.from_ndarray(chirp(np.arange(48000) / 48000).astype(np.float32)[None], "fltp", "mono")
        piece.sample_rate = 48000
        container.mux([*sound.encode(piece), *sound.encode(None)])
    assert not probe(path).has_video
    assert probe(path).duration == pytest.approx(1.0, abs=0.06)
    assert read_clip(path, video=False).waveforms.any()


@pytest.mark.parametrize("wanted", [{}, {"audio": False}, {"video": False}], ids=["both", "video", "audio"])
@pytest.mark.parametrize("kind", ["mp4", "webm"])
def test_file_cut_in_half_is_reported_not_padded(tmp_path, media_file, kind, wanted):
    if kind == "mp4":
        faststart = Recipe("libx264", "aac", SHORT_GOP, container={"options": {"movflags": "faststart"}})
        whole = write_media(tmp_path / "whole.mp4", faststart)
    else:
        whole = media_file("vp9.webm")
    path, data = tmp_path / f"cut.{kind}", whole.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaError, match=rf"cut\.{kind}: truncated"):
        read_clip(path, **wanted)
    early = read_clip(path, Sampling(num_frames=2, window_seconds=0.5), start=0.5, end=1.5, **wanted)
    assert early.frames is None or numbers_of(early.frames) == [18, 31]


def test_duration_is_not_taken_from_a_lying_header(media_file, tmp_path):
    data = bytearray(media_file("short.mp4").read_bytes())
    place = data.index(b"mvhd") + 20
    data[place : place + 4] = struct.pack(">I", 1_000_000)
    path = tmp_path / "liar.mp4"
    path.write_bytes(data)
    assert probe(path).duration == pytest.approx(6, abs=0.1)
    np.testing.assert_array_equal(read_clip(path).frames[0], read_clip(media_file("short.mp4")).frames[0])


class Pipe(io.BytesIO):
    """Takes bytes one after the other."""

    def seekable(self) -> bool:
        return False


def test_an_avi_that_was_written_to_a_pipe_is_counted(media_file, tmp_path):
    pipe, path = Pipe(), tmp_path / "piped.avi"
    with av.open(str(media_file("h264.avi"))) as source, av.open(pipe, "w", format="avi") as piped:
        streams = {stream: piped.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream]
                piped.mux(packet)
    path.write_bytes(pipe.getvalue())
    assert probe(path).duration == pytest.approx(6, abs=0.1)
    assert numbers_of(read_frames(path, [1.01, 3.01])) == [25, 75]


@pytest.mark.parametrize("name", ["raw.aac", "raw.mp3"])
def test_untimed_stream_is_counted_not_guessed_from_its_first_bit_rate(tmp_path, name):
    if name == "raw.aac":
        quiet, loud = Recipe(audio="aac", layout="mono"), Recipe(audio="aac", layout="5.1")
    else:
        raw = {"options": {"write_xing": "0"}}
        quiet = Recipe(audio="libmp3lame", sound={"qscale": "4"}, layout="mono", container=raw)
        loud = Recipe(audio="libmp3lame", sound={"qscale": "4"})
    joined: Path = tmp_path / f"joined-{name}"
    parts = [write_media(tmp_path / f"{number}-{name}", recipe) for number, recipe in enumerate((quiet, loud))]
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert probe(joined).duration == pytest.approx(12, abs=0.15)
