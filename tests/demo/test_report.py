"""The report is one whole file: balanced, escaped, without requests, its pictures and sounds inside."""

import base64
import io
import re
from dataclasses import replace
from fractions import Fraction
from html.parser import HTMLParser

import av
import numpy as np
import pytest
from PIL import Image

from cmmixer_hf.demo.report import Panel, Query, Report, Track, render, write_report

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = "<script>alert('&')</script> \"quoted\" $title {{ 7 * 7 }}"


class Page(HTMLParser):
    """Elements in the order of the page; complains about tags that do not close one another."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] not in ("style", "script"):
            self.words.append(" ".join(data.split()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def m4a(frequency: float, rate: int = 16000) -> bytes:
    tone = 0.3 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate, dtype=np.float32)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


@pytest.fixture(scope="module")
def report() -> Report:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (8, 24, 32, 3), dtype=np.uint8)
    sounds = [m4a(220.0 * (1 + place)) for place in range(5)]
    found = [Track(f"track {place}", 0.9 - 0.2 * place, place == 2, sound) for place, sound in enumerate(sounds)]
    missed = [replace(track, right=False) for track in found]
    own = Track("far away", -0.3, True, sounds[0])
    rows = [{"direction": "video → music", "model": name, "R@10": 31.25, "pool": 128} for name in ("trained", "chance")]
    history = [{"step": step, "loss": 1 / (1 + step), "learning_rate": 1e-3} for step in range(20)]
    return Report(
        title="Report",
        lead="What this is.",
        scores=[*rows, *({**row, "direction": "music → video"} for row in rows)],
        panels=[Panel("one", frames[0], "Mixtures"), Panel("two", frames[1], "Mixtures"), Panel("three", frames[2])],
        histories={"Pre-training": history, "Fine-tuning": history},
        queries=[Query("first", frames, 3.0, found, pool=128), Query("second", frames, 40.5, [*missed, own])],
        notes=["Few clips."],
        facts={"seed": "0"},
        command="cmmixer demo",
    )


@pytest.fixture(scope="module")
def page(report) -> Page:
    return Page(render(report))


def test_tags_balance(page):
    assert page.open == []


def test_nothing_is_requested(page):
    sources = [
        value for _, attributes in page.elements for name, value in attributes.items() if name in ("src", "href")
    ]
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert not {"iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.elements}
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy.startswith("default-src 'none'")


def test_styles_and_scripts_name_no_address(report):
    html = re.sub(r' xmlns(:\w+)?="[^"]*"|base64,[^"]*', "", render(report))
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)


def test_identifiers_are_unique(page):
    identifiers = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert identifiers  # the curves have clip paths
    assert len(identifiers) == len(set(identifiers))


def test_pictures_decode_and_have_words(page, report):
    pictures = page.all("img")
    assert len(pictures) == 2 * 8 + len(report.panels)
    for picture in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(picture["src"].split(",")[1])))
        image.load()
        assert image.height >= 160
    assert [picture["alt"] for picture in pictures][-3:] == ["one", "two", "three"]
    groups = [attributes["aria-label"] for attributes in page.all("div") if attributes.get("role") == "img"]
    assert groups == ["8 frames of first", "8 frames of second"]


def test_sounds_decode(page):
    players = page.all("audio")
    assert len(players) == 11
    for player in players:
        assert "controls" in player
        kind, content = player["src"].split(",")
        assert kind == "data:audio/mp4;base64"
        with av.open(io.BytesIO(base64.b64decode(content))) as container:
            assert sum(frame.samples for frame in container.decode(audio=0)) >= 16000


def test_the_right_track_is_marked_in_words_and_shape(report):
    cards = render(report).split("<article")[1:]
    for card, rank, title in zip(cards, ("3", "40.5"), ("track 2", "far away"), strict=True):
        rows = re.findall(r"<li.*?</li>", card, flags=re.DOTALL)
        marked = [row for row in rows if "✓ own track" in row]
        assert len(marked) == 1
        assert title in marked[0]
        assert re.search(r'<li class="right\b', marked[0])
        assert f'<span class="place">{rank}</span>' in marked[0]
        assert sum('class="right' in row for row in rows) == 1
    assert "own track at rank 3 of 128" in cards[0]
    assert "own track at rank 40.5<" in cards[1]


def test_ranks_count_and_bars_follow_the_scores(report):
    card = render(report).split("<article")[1]
    assert re.findall(r'class="place">([^<]*)<', card) == ["1", "2", "3", "4", "5"]
    widths = [float(width) for width in re.findall(r"width: ([\d.]+)%", card)]
    assert widths[0] == 100
    assert np.allclose(widths, [100 * (0.9 - 0.2 * place) / 0.9 for place in range(5)], atol=0.06)


@pytest.mark.parametrize("score", [0.0, -0.5])
def test_scores_without_a_positive_one_have_empty_bars(report, score):
    tracks = [replace(track, score=score) for track in report.queries[0].tracks]
    html = render(replace(report, queries=[replace(report.queries[0], tracks=tracks)]))
    assert set(re.findall(r"<span style=\"width: ([\d.]+)%", html)) == {"0.0"}


def test_scores_are_grouped_by_direction(page, report):
    assert page.words.count("video → music") == page.words.count("music → video") == 1
    assert page.words.count("31.2") == 4
    assert len(page.all("tbody")) == 2
    plain = Page(render(replace(report, scores=[{"model": "trained", "R@1": 1.0}, {"model": "chance", "R@1": 0.5}])))
    assert [word for word in plain.words if word in ("model", "trained", "chance")] == ["model", "trained", "chance"]


def test_every_text_is_escaped(report):
    clip = report.queries[0]
    html = render(
        Report(
            title=EVIL,
            lead=EVIL,
            scores=[{EVIL: EVIL, "R@1": 1.0}, {EVIL: EVIL, "R@1": 2.0}],
            panels=[Panel(EVIL, clip.frames[0], EVIL)],
            histories={EVIL: [{"step": 0, "loss": 1.0}]},
            queries=[replace(clip, title=EVIL, tracks=[replace(clip.tracks[0], title=EVIL)])],
            notes=[EVIL],
            facts={EVIL: EVIL},
            command=EVIL,
        )
    )
    page = Page(html)
    assert page.open == []
    assert len(page.all("script")) == 1
    assert "alert('&')" not in html
    assert sum(EVIL in word for word in page.words) >= 11
    assert EVIL in [player["aria-label"] for player in page.all("audio")]


def test_an_empty_report_is_a_page_without_sections():
    page = Page(render(Report("Title", "Lead")))
    assert page.open == []
    assert page.all("section") == []
    assert page.words == ["Title", "Title", "Lead"]


def test_writing_makes_folders_and_leaves_one_file(tmp_path, report):
    target = tmp_path / "new" / "report.html"
    write_report(target, report)
    assert target.read_text(encoding="utf-8") == render(report)
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_page(tmp_path, report):
    target = tmp_path / "report.html"
    target.write_text("old")
    broken = replace(report, panels=[Panel("broken", np.zeros((2, 2, 7), np.uint8))])
    with pytest.raises((TypeError, ValueError)):
        write_report(target, broken)
    with pytest.raises(UnicodeEncodeError):
        write_report(target, replace(report, lead="\ud800"))
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
