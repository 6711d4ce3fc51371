"""Chunks that claim more than the file has are refused before anything is read of them."""

import struct

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


@pytest.mark.parametrize("claimed", [32000, 0xFFFFFFFF])
def test_sound_may_claim_anything(tmp_path, claimed):
    path = tmp_path / "a.wav"
    path.write_bytes(riff(FORM, info(22, 10), b"data" + struct.pack("<I", claimed) + bytes(32000)))
    assert oversized_chunk(str(path)) is None
    assert probe(path).duration == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["a.wav", "surround.wav", "a.aiff", "h264.avi", "a.mp3"])
def test_intact_files_pass(media_file, name):
    assert oversized_chunk(str(media_file(name))) is None
