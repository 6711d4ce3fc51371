"""The page, as a program talks to it and as a person uses it, in a real browser."""

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cmmixer_hf.data.batches import SourceError

pytest.importorskip("gradio", reason="the page needs gradio")
client = pytest.importorskip("gradio_client", reason="the page needs gradio")

APP = Path(__file__).parents[1] / "examples" / "app.py"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def demo(demo_folder) -> Path:
    return demo_folder / "demo" / "seed-0"


@pytest.fixture(scope="module")
def footage(demo, tmp_path_factory) -> str:
    """An index of the clips' pictures."""
    from cmmixer_hf.search.indexing import IndexSettings, build_index

    folder = str(tmp_path_factory.mktemp("footage") / "index")
    build_index(IndexSettings(str(demo / "clips"), folder, str(demo / "retrieval"), modality="video"))
    return folder


@pytest.fixture(scope="module")
def page(demo, footage, tmp_path_factory) -> Iterator[str]:
    """The address of the page, which runs in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = ["--music", str(demo / "index"), "--footage", footage, "--pretrained", str(demo / "pretrained")]
    log = tmp_path_factory.mktemp("page") / "log"
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        command = [sys.executable, str(APP), *folders, "--port", str(port)]
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


def ask(page: str, name: str, *files: str | None, rest: tuple = ()) -> tuple:
    handles = [client.handle_file(file) if file else None for file in files]
    return client.Client(page, verbose=False).predict(*handles, *rest, api_name=f"/{name}")


def is_picture(shown: str | dict) -> bool:
    return Path(shown if isinstance(shown, str) else shown["path"]).stat().st_size > 1000


@pytest.mark.parametrize("name", ["find_music", "find_footage"])
def test_a_file_gets_ranked_items_with_players_and_a_reason(page, clip, name):
    *found, seen, why = ask(page, name, clip)
    titles, players = found[::2], found[1::2]
    assert [title[:3] for title in titles] == [f"{place}. " for place in range(1, 6)]
    assert all(", at 0:00-0:12" in title for title in titles)
    assert all(player["value"] if isinstance(player, dict) else player for player in players)
    assert is_picture(seen)
    assert is_picture(why)


def test_a_bent_query_ranks_otherwise(page, clip, demo):
    other = str(sorted((demo / "clips").rglob("*.mp4"))[-1])
    plain, *bent = ask(page, "bend", clip, other, None, rest=(2.0,))
    assert plain.splitlines() != bent[::2]
    unbent, *same = ask(page, "bend", clip, None, None, rest=(2.0,))
    assert unbent.splitlines() == same[::2] == plain.splitlines()


def test_mixture_and_reconstruction_are_shown(page, clip):
    assert is_picture(ask(page, "separate", clip))


@pytest.fixture(scope="module")
def example() -> dict:
    """The example as a module."""
    return runpy.run_path(str(APP))


def test_a_tab_without_its_index_says_how_to_make_one(example):
    content = json.dumps(example["build"](example["App"](example["AppSettings"]())).get_config_file())
    assert content.count("cmmixer index") == 3
    assert "--modality video" in content


def test_the_wrong_kind_of_index_is_refused(example, footage):
    with pytest.raises(SourceError, match="is an index of video, expected audio"):
        example["App"](example["AppSettings"](music=footage))


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_a_person_searches_in_every_tab_and_nothing_leaves_the_machine(browser, page, clip, width, tmp_path):
    shots = Path(os.environ.get("CMMIXER_SCREENSHOTS", tmp_path))
    view = browser.new_page(viewport={"width": width, "height": 844})
    outside: list[str] = []
    view.on("request", lambda request: outside.append(request.url) if page not in request.url else None)
    view.goto(page)
    for tab, name, last in (
        ("Find music", "music", "#music-why img"),
        ("Find footage", "footage", "#footage-why img"),
        ("Bend a query", "bend", "#bend-plain strong"),
    ):
        view.get_by_role("tab", name=tab).click()
        view.set_input_files(f"#{name}-query input[type=file]", clip)
        view.wait_for_selector(f"#{name}-query .file-preview")
        view.click(f"#{name}-find")
        view.wait_for_selector(f"#{name}-title0 strong")
        view.wait_for_selector(last)
        if name == "music":
            view.get_by_text("Mixture and reconstruction").click()
            view.click("#separate")
            view.wait_for_selector("#mixture img")
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
        view.screenshot(path=shots / f"{name}-{width}.png", full_page=True)
    assert not [url for url in outside if not url.startswith(("data:", "blob:", "about:"))]
    view.close()


@pytest.mark.parametrize(("tab", "name"), [("Find music", "music"), ("Find footage", "footage")])
def test_a_person_plays_what_was_found(browser, page, clip, tab, name):
    view = browser.new_page()
    view.goto(page)
    view.get_by_role("tab", name=tab).click()
    view.set_input_files(f"#{name}-query input[type=file]", clip)
    view.wait_for_selector(f"#{name}-query .file-preview")
    view.click(f"#{name}-find")
    if name == "music":
        player = view.locator("#music-player0")
        player.get_by_text("0:12").wait_for()  # the track is there
        player.get_by_role("button", name="Play", exact=True).click()
        player.get_by_text(re.compile(r"^0:(0[1-9]|1[01])$")).wait_for()  # of 12 s; one second alone may be missed
    else:
        player = view.locator("#footage-player0 video")
        player.click()
        view.wait_for_function("player => player.currentTime > 0.2", arg=player.element_handle())
    view.close()


def test_a_person_is_told_of_a_bad_file(browser, page, tmp_path):
    bad, words = tmp_path / "broken.mp4", tmp_path / "notes.txt"
    bad.write_bytes(b"not a video" * 100)
    words.write_text("not a video")
    view = browser.new_page()
    view.goto(page)
    view.click("#music-find")
    assert "give a video" in view.wait_for_selector(".toast-body").inner_text()
    for file, message in ((bad, "cannot be used"), (words, "file type")):
        view.reload()
        view.set_input_files("#music-query input[type=file]", str(file))
        if file == bad:
            view.wait_for_selector("#music-query .file-preview")
            view.click("#music-find")
        assert message in view.wait_for_selector(".toast-body").inner_text()
    view.close()
