"""What the page shows of words that others wrote."""

import pytest

pytest.importorskip("gradio", reason="the page needs gradio")

from cmmixer_hf.page.finder import facts_in_words, without_paths
from cmmixer_hf.page.layout import filled

EVIL = (
    '<img src="http://evil.example/x.png"> ![x](http://evil.example/y.png) ${1+1} {{value}} <script>alert(1)</script>'
)


@pytest.mark.parametrize("shown", [{"mistake": EVIL}, {"note": EVIL}, {"hits": [{"title": EVIL, "facts": EVIL}]}])
def test_titles_and_messages_are_text(shown):
    page = filled(kind="audio", **shown)
    assert "<img" not in page
    assert "<script" not in page
    assert "${" not in page
    assert "{{" not in page
    assert "&lt;img" in page


def test_what_is_known_of_a_file_is_a_line():
    assert facts_in_words({"title": "Ode", "bpm": 92.5, "key": "D minor"}) == "92.5 bpm · key D minor"


@pytest.mark.parametrize("path", ["/tmp/gradio/0a1/my clip.mp4", "C:\\Users\\me\\clip.mp4"])
def test_messages_tell_no_folders(path):
    message = without_paths(f"{path}: has no sound; leave it out")
    assert message.endswith("clip.mp4: has no sound; leave it out")
    assert "tmp" not in message
    assert "Users" not in message
