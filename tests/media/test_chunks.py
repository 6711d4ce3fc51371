"""Parts that claim more than the file has are refused before anything is read of them."""

import struct
import zlib

import pytest

from cmmixer_hf.media.chunks import oversized_chunk
from cmmixer_hf.media.reading import MediaError, probe

FORM = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
SOUND = b"data" + struct.pack("<I", 32000) + bytes(32000)


def riff(*chunks: bytes, size: int = 0x7FFFFFFF) -> bytes:
    return b"RIFF" + struct.pack("<I", size) + b"WAVE" + b"".join(chunks)


def info(outer: int, inner: int) -> bytes:
    return b"LIST" + struct.pack("<I", outer) + b"INFOISFT" + struct.pack("<I", inner) + b"x" * 10


@pytest.mark.parametrize(
    ("chunks", "name"),
    [
        ((FORM, info(0x7FFFFFFF, 10), SOUND), "LIST"),
        ((FORM, info(22, 0x7FFFFFF0), SOUND), "ISFT"),
        ((FORM, b"junk" + struct.pack("<I", 0xFFFFFFF0), SOUND), "junk"),
    ],
)
def test_claims_that_do_not_fit(tmp_path, chunks, name):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(*chunks))
    with pytest.raises(MediaError, match=rf"damaged: its part '{name}' claims \d+ bytes of a file of \d+"):
        probe(path)


def test_pictures_may_claim_anything(tmp_path, media_file):
    """As they do in an AVI that was written to a pipe."""
    path, data = tmp_path / "a.avi", bytearray(media_file("h264.avi").read_bytes())
    place = data.index(b"movi") - 4
    assert data[place - 4 : place] == b"LIST"
    data[place : place + 4] = b"\xff" * 4
    path.write_bytes(data)
    assert oversized_chunk(str(path)) is None
    assert probe(path).has_video


@pytest.mark.parametrize("claimed", [32000, 0xFFFFFFFF])
def test_sound_may_claim_anything(tmp_path, claimed):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORM, info(22, 10), b"data" + struct.pack("<I", claimed) + bytes(32000)))
    assert oversized_chunk(str(path)) is None
    assert probe(path).duration == pytest.approx(1.0)


def table(name: bytes, count: int, *fields: int) -> bytes:
    return struct.pack(f">I4s{len(fields) + 2}I", 16 + 4 * len(fields), name, 0, *fields, count)


def box(name: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(b"".join(parts)), name) + b"".join(parts)


@pytest.mark.parametrize(
    ("inside", "claimed"),
    [
        (box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", table(b"stsz", 30_000_000, 1))))), "'stsz' claims 3"),
        (b"".join(table(b"trun", 400_000) for _ in range(3)), "'trun' claims 1200000 samples"),
        (box(b"cmov", struct.pack(">I4sI", 12, b"cmvd", 1 << 30)), "'cmvd' claims 1073741824 bytes"),
    ],
)
def test_tables_of_more_samples_than_bytes(tmp_path, inside, claimed):
    """FFmpeg makes an entry of its index for each."""
    path = tmp_path / "a.mp4"
    path.write_bytes(box(b"ftyp", b"isom", bytes(4)) + box(b"moov", inside) + box(b"mdat", bytes(1000)))
    with pytest.raises(MediaError, match=rf"damaged: its part {claimed}"):
        probe(path)


def tag(version: int, *frames: bytes) -> bytes:
    return b"ID3" + bytes([version, 0, 0]) + syncsafe(len(b"".join(frames))) + b"".join(frames)


def frame(name: bytes, content: bytes, flags: int = 0) -> bytes:
    return name + syncsafe(len(content)) + struct.pack(">H", flags) + content


def syncsafe(number: int) -> bytes:
    return bytes(number >> shift & 127 for shift in (21, 14, 7, 0))


def packed(size: int) -> bytes:
    """Zeros under zlib after their number, as a frame with flags 9 holds them."""
    return struct.pack(">I", size) + zlib.compress(bytes(size))


@pytest.mark.parametrize("version", [3, 4])
def test_tags_that_unpack_to_much(tmp_path, media_file, version):
    sound = media_file("a.mp3").read_bytes()
    sound = sound[10 + int.from_bytes(sound[8:10]) :] if sound.startswith(b"ID3") else sound
    song, path = frame(b"TIT2", b"\3a title"), tmp_path / "a.mp3"
    path.write_bytes(tag(version, song, frame(b"USLT", packed(1000), 9)) + sound)
    assert probe(path).has_audio
    zeros = packed(24 << 20)  # three of which are too many
    frames = [frame(name, zeros, 9) if version == 4 else three(name, zeros) for name in (b"TIT2", b"TPE1", b"PRIV")]
    path.write_bytes(tag(version, song, *frames) + sound)
    with pytest.raises(MediaError, match=rf"damaged: its part 'ID3' claims {3 * (24 << 20)} bytes of a file of"):
        probe(path)


def three(name: bytes, content: bytes) -> bytes:
    """A frame whose length is written as in version 3."""
    return name + struct.pack(">IH", len(content), 9) + content


@pytest.mark.parametrize("name", ["a.wav", "surround.wav", "a.aiff", "h264.avi", "a.mp3", "long.mp4", "short.mp4"])
def test_intact_files_pass(media_file, name):
    assert oversized_chunk(str(media_file(name))) is None
