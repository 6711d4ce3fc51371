from pathlib import Path

import pytest

from cmmixer_hf.data.clips import Blob, ClipSpec, clip_of_file, local_file
from cmmixer_hf.media.reading import MediaError


def test_a_clip_has_a_file():
    with pytest.raises(ValueError, match="'empty' has no file"):
        ClipSpec("empty", "empty")


def test_sound_comes_from_the_video_unless_it_has_its_own_file_or_part():
    own = ClipSpec("a", "a", video="a.mp4", start=1, end=5)
    assert own.picture == own.sound == ("a.mp4", 1, 5)
    other = ClipSpec("a", "a", video="a.mp4", audio="b.mp3", start=1, end=5)
    assert other.sound == ("b.mp3", 1, 5)
    elsewhere = ClipSpec("a", "a", video="a.mp4", audio="b.mp3", start=1, end=5, audio_start=60.0)
    assert elsewhere.sound == ("b.mp3", 60, None)
    assert elsewhere.picture == ("a.mp4", 1, 5)


def test_a_file_is_video_or_audio_by_its_suffix():
    assert clip_of_file("a/b.MP3").audio == "a/b.MP3"
    assert clip_of_file("a/b.webm").video == "a/b.webm"


def test_bytes_become_a_file_for_a_while_and_errors_name_their_origin():
    with local_file(Blob("some.tar::a.mp4", b"content")) as path:
        assert path.endswith(".mp4")
        assert Path(path).read_bytes() == b"content"
    assert not Path(path).exists()
    with (
        pytest.raises(MediaError, match=r"some\.tar::a\.mp4: is broken") as caught,
        local_file(Blob("some.tar::a.mp4", b"")),
    ):
        raise MediaError("/tmp/clip.mp4", "is broken", "mend it")
    assert "/tmp" not in str(caught.value)
