from pathlib import Path

import av
import numpy as np
import pytest
from conftest import write_noise_clip

from cmmixer_hf.media.writing import write_clip
from cmmixer_hf.search.measuring import TEMPO_RATE, loudness, measure, tempo

RATE = 22050


def clicks(bpm: float, seconds: float, first: float = 0.25) -> np.ndarray:
    """Short bursts at a tempo, over faint noise (N,)."""
    generator = np.random.default_rng(0)
    sound = generator.normal(0, 0.001, round(seconds * RATE)).astype(np.float32)
    for beat in np.arange(first, seconds - 0.1, 60 / bpm):
        start = round(beat * RATE)
        sound[start : start + 800] += 0.5 * generator.normal(0, 1, 800) * np.hanning(800)
    return np.clip(sound, -1, 1)


@pytest.fixture(scope="module")
def song(tmp_path_factory) -> Path:
    """Twenty seconds at 100 beats a minute, with tags."""
    plain = tmp_path_factory.mktemp("songs") / "plain.mp4"
    write_clip(plain, None, clicks(100, 20), sampling_rate=RATE)
    tagged = plain.with_name("track01.m4a")
    with av.open(plain) as source, av.open(tagged, "w", format="mp4") as target:
        target.metadata.update(title="Ode\nto Joy", artist="A & <b>B</b>", copyright="CC BY 4.0", genre="x" * 1000)
        stream = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return tagged


def test_a_file_tells_its_tags_length_loudness_and_tempo(song):
    told = measure(str(song))
    assert told["title"] == "Ode to Joy"
    assert (told["artist"], told["licence"]) == ("A & <b>B</b>", "CC BY 4.0")
    assert len(told["genre"]) == 200
    assert told["duration"] == pytest.approx(20, abs=0.1)
    assert told["bpm"] == pytest.approx(100, abs=0.5)
    assert told["bpm_confidence"] > 0.5
    assert -40 < told["loudness"] < -10


def test_tags_alone_decode_nothing(song, monkeypatch):
    monkeypatch.setattr("cmmixer_hf.search.measuring.sound_frames", None)
    assert measure(str(song), how="tags").keys() == {"title", "artist", "licence", "genre", "duration"}
    assert measure("nowhere.mp3", how="none") == {}


def test_of_footage_its_size_is_noted(tmp_path):
    told = measure(str(write_noise_clip(tmp_path / "a.mp4", 0)), "video")
    assert told.keys() == {"duration", "width", "height"}


def test_what_cannot_be_read_has_what_was_measured_before(song, tmp_path):
    (tmp_path / "note.mp3").write_text("no music")
    assert measure(str(tmp_path / "note.mp3")) == {}
    short = tmp_path / "short.m4a"
    short.write_bytes(song.read_bytes()[:-20000])
    assert measure(str(short)).get("bpm") is None


@pytest.mark.parametrize("rate", [16000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_loudness_is_that_of_the_recommendation(rate, channels):
    """BS.1770: a sine of 997 Hz at full scale in one channel is −3.01 LUFS; two are 3 dB louder."""
    sine = 0.1 * np.sin(2 * np.pi * 997 * np.arange(5 * rate) / rate, dtype=np.float32)
    expected = -20 - 3.01 + 3.01 * (channels - 1)
    assert loudness(np.stack([sine] * channels), rate) == pytest.approx(expected, abs=0.1)


def test_silence_has_no_loudness_and_noise_no_tempo():
    assert loudness(np.zeros((1, 48000), np.float32), 48000) is None
    noise = np.random.default_rng(0).normal(0, 0.1, 20 * TEMPO_RATE).astype(np.float32)
    assert tempo(noise).get("bpm_confidence", 0.0) < 0.2
    assert tempo(np.zeros(2 * TEMPO_RATE, np.float32)) == {}
