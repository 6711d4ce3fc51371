"""The page, as a program talks to it and as a person uses it, in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the page needs gradio")
client = pytest.importorskip("gradio_client", reason="the page needs gradio")

APP = Path(__file__).parents[1] / "examples" / "app.py"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def demo(demo_folder) -> Path:
    return demo_folder / "demo" / "seed-0"


@pytest.fixture(scope="module")
def page(demo, tmp_path_factory) -> Iterator[str]:
    """The address of the page, which runs in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--index", str(demo / "index"), "--pretrained", str(demo / "pretrained"), "--port", str(port)]
    log = tmp_path_factory.mktemp("page") / "log"
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        command = [sys.executable, str(APP), *arguments]
        process = subprocess.Popen(command, stdout=output, stderr=output, cwd=log.parent, env=environment)
    address = f"http://127.0.0.1:{port}"
    while not answers(address):
        assert process.poll() is None, log.read_text()
        time.sleep(0.3)
    yield address
    process.terminate()
    process.wait()


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(address).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def clip(demo) -> str:
    return str(sorted((demo / "clips").rglob("*.mp4"))[0])


def test_a_clip_gets_ranked_tracks_with_players_and_a_reason(page, clip):
    seen, *found, why = client.Client(page, verbose=False).predict(
        client.handle_file(clip), None, None, 1.0, api_name="/find"
    )
    titles, players = found[::2], found[1::2]
    assert [title[:4] for title in titles] == [f"**{place}." for place in range(1, 6)]
    assert all(player["value"] if isinstance(player, dict) else player for player in players)
    assert Path(why if isinstance(why, str) else why["path"]).stat().st_size > 1000
    assert Path(seen if isinstance(seen, str) else seen["path"]).stat().st_size > 1000


def test_a_bent_query_ranks_otherwise(page, clip, demo):
    other = str(sorted((demo / "clips").rglob("*.mp4"))[-1])
    ask = client.Client(page, verbose=False)
    plain, bent = (
        ask.predict(client.handle_file(clip), plus, None, 2.0, api_name="/find")[1::2][:5]
        for plus in (None, client.handle_file(other))
    )
    assert plain != bent


def test_mixture_and_reconstruction_are_shown(page, clip):
    picture = client.Client(page, verbose=False).predict(client.handle_file(clip), api_name="/separate")
    assert Path(picture if isinstance(picture, str) else picture["path"]).stat().st_size > 1000


@pytest.mark.skipif(CHROMIUM is None, reason="needs a Chromium on the PATH")
def test_a_person_uploads_listens_and_is_told_of_a_bad_file(page, clip, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    bad = tmp_path / "broken.mp4"
    bad.write_bytes(b"not a video" * 100)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        view = browser.new_page(viewport={"width": 390, "height": 844})  # a phone
        outside: list[str] = []
        view.on("request", lambda request: outside.append(request.url) if page not in request.url else None)
        view.goto(page)
        view.set_input_files("#query input[type=file]", clip)
        view.click("#find")
        view.wait_for_selector("#title0 strong")
        view.wait_for_selector("#player0 audio, #player0 button")
        view.wait_for_selector("#why img")
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
        view.screenshot(path=os.environ.get("CMMIXER_SCREENSHOT", str(tmp_path / "page.png")), full_page=True)
        view.reload()
        view.set_input_files("#query input[type=file]", str(bad))
        view.click("#find")
        assert "cannot be used" in view.wait_for_selector(".toast-body").inner_text()
        browser.close()
    strangers = [url for url in outside if not url.startswith(("data:", "blob:", "about:"))]
    assert not strangers
