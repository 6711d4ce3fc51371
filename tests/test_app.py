"""The page, as a program talks to it and as a person uses it, in a real browser."""

import ast
import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

from cmmixer_hf.data.prepared_clips import SourceError

pytest.importorskip("gradio", reason="the page needs gradio")
pytest.importorskip("gradio_client", reason="the page needs gradio")

import gradio_client as client
import httpx

from cmmixer_hf.page import PageSettings, build_page, page_server, serve

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
def log(tmp_path_factory) -> Path:
    """What the page's process says."""
    return tmp_path_factory.mktemp("page") / "log"


@pytest.fixture(scope="module")
def page(demo, footage, log) -> Iterator[str]:
    """The address of the page, which runs in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = ["--music", str(demo / "index"), "--footage", footage, "--pretrained", str(demo / "pretrained")]
    environment = os.environ | {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        command = [sys.executable, str(APP), *folders, "--port", str(port), *["--mcp"] * bool(find_spec("mcp"))]
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


def ask(page: str, name: str, file: str | None, words: str = "", filters: str = "", count: int = 5) -> list[dict]:
    handle = client.handle_file(file) if file else None
    return client.Client(page, verbose=False).predict(handle, words, filters, count, api_name=f"/{name}")


@pytest.mark.parametrize("name", ["find_music", "find_footage"])
def test_a_file_gets_ranked_items(page, clip, name):
    found = ask(page, name, clip)
    assert len(found) == 5
    assert [item["score"] for item in found] == sorted((item["score"] for item in found), reverse=True)
    assert all(item["end"] > item["start"] == 0 for item in found)
    assert all("path" not in item and item["duration"] > 0 for item in found)


def test_programs_choose_how_many_and_which(page, clip):
    assert len(ask(page, "find_music", clip, "", "", 2)) == 2
    assert ask(page, "find_music", clip, "", "duration>1000", 2) == []
    for filters, count, message in (
        ("mood=calm", 5, "no item has mood: filter by"),
        ("bpm", 5, "a filter is KEY=VALUE"),
        ("", 0, "at least 1, got 0"),
    ):
        with pytest.raises(client.exceptions.AppError, match=message):
            ask(page, "find_music", clip, "", filters, count)


def test_what_was_found_is_laid_under_the_clip(page, clip):
    best = ask(page, "find_music", clip)[0]
    made = client.Client(page, verbose=False).predict(
        client.handle_file(clip), best["id"], best["start"], False, api_name="/fit_music"
    )
    assert Path(made).suffix == ".mp4"
    assert Path(made).stat().st_size > 1000
    with pytest.raises(client.exceptions.AppError, match="no such track"):
        client.Client(page, verbose=False).predict(client.handle_file(clip), "../x", 0, False, api_name="/fit_music")


def test_the_library_says_what_it_is(page):
    told = client.Client(page, verbose=False).predict(api_name="/describe_library")
    assert told["music"]["asks"] == ["video", "audio"]
    assert told["music"]["trained_on"]
    assert "duration" in told["footage"]["filters"]


@pytest.fixture
def secret(demo) -> Iterator[Path]:
    """A file that is in no index, among those that are."""
    file = demo / "clips" / ".env"
    file.write_text("secret")
    yield file
    file.unlink()


def test_only_indexed_files_are_served(page, clip, secret):
    item = ask(page, "find_footage", clip)[0]
    with urllib.request.urlopen(f"{page}/media/{item['id']}") as answer:
        assert answer.headers["content-type"] == "video/mp4"
        assert answer.headers["x-content-type-options"] == "nosniff"
    part = urllib.request.Request(f"{page}/media/{item['id']}", headers={"Range": "bytes=0-9"})
    assert len(urllib.request.urlopen(part).read()) == 10  # players jump
    for address in (f"gradio_api/file={secret}", f"gradio_api/file={clip}", "media/.env", "media/..%2f.env"):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"{page}/{address}")
        assert refused.value.code in (403, 404)


def test_a_mistake_leaves_no_traceback_and_tells_no_path(page, log, tmp_path):
    bad = tmp_path / "broken.mp4"
    bad.write_bytes(b"not a video" * 100)
    with pytest.raises(client.exceptions.AppError, match="this file cannot be used") as told:
        ask(page, "find_music", str(bad))
    assert "/" not in str(told.value).replace(page, "")
    with pytest.raises(client.exceptions.AppError, match="give a video or a sound file first"):
        ask(page, "find_music", None)
    assert "Traceback" not in log.read_text()


def test_a_port_in_use_is_a_sentence(page):
    port = int(page.rpartition(":")[2])
    with pytest.raises(SourceError, match=f"port {port} of 127.0.0.1 cannot be used .*: choose another with --port"):
        serve(PageSettings(port=port))


def test_a_tab_without_its_index_says_how_to_make_one():
    content = json.dumps(build_page(None, None).get_config_file())
    assert content.count("cmmixer index") == 2
    assert "--modality video" in content


def test_the_wrong_kind_of_index_is_refused(footage):
    with pytest.raises(SourceError, match="is an index of video, expected audio"):
        page_server(PageSettings(music=footage))


def test_the_tools_are_there_for_programs_that_speak_mcp(demo):
    pytest.importorskip("mcp", reason="needs mcp")
    from starlette.testclient import TestClient

    with TestClient(page_server(PageSettings(music=str(demo / "index"), mcp=True))) as program:
        tools = {tool["name"]: tool for tool in program.get("/gradio_api/mcp/schema").json()}
    assert tools.keys() == {"find_music", "find_footage", "fit_music", "describe_library"}
    arguments = tools["find_music"]["inputSchema"]
    assert arguments["properties"]["count"] | {"description": ""} == {"type": "number", "default": 5, "description": ""}
    assert "bpm=90..120" in arguments["properties"]["filters"]["description"]
    assert tools["fit_music"]["inputSchema"]["properties"]["keep_sound"]["type"] == "boolean"


def test_a_program_that_speaks_mcp_finds_music_for_a_file_of_its_own_and_lays_it_under(page, clip):
    pytest.importorskip("mcp", reason="needs mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    with open(clip, "rb") as file:
        (uploaded,) = httpx.post(f"{page}/gradio_api/upload", files={"files": file}).json()
    address = f"{page}/gradio_api/file={quote(uploaded)}"

    async def talk() -> list:
        async with (
            streamable_http_client(f"{page}/gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            names = {tool.name for tool in (await session.list_tools()).tools}
            found = await session.call_tool("find_music", {"clip": address, "filters": "duration<1000", "count": 2})
            best = ast.literal_eval(found.content[0].text)  # which is how Gradio writes a list for MCP
            wanted = {"clip": address, "track": best[0]["id"], "start": best[0]["start"], "keep_sound": True}
            made = await session.call_tool("fit_music", wanted)
            elsewhere = await session.call_tool("find_music", {"clip": f"{page}/media/x", "count": 2})
            return [names, best, made, elsewhere]

    names, best, made, elsewhere = asyncio.run(talk())
    assert names >= {"find_music", "find_footage", "fit_music", "describe_library"}
    assert [set(item) >= {"id", "title", "score", "start"} for item in best] == [True, True]
    assert not made.isError
    assert "with-music.mp4" in made.content[0].text
    assert elsewhere.isError
    assert "upload it to this page" in elsewhere.content[0].text


@pytest.fixture(scope="module")
def browser() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")], ids=["phone", "desk"])
def test_a_person_searches_in_every_tab_and_nothing_leaves_the_machine(browser, page, clip, width, theme, tmp_path):
    shots = Path(os.environ.get("CMMIXER_SCREENSHOTS", tmp_path))
    view = browser.new_page(viewport={"width": width, "height": 844})
    outside: list[str] = []
    view.on("request", lambda request: outside.append(request.url) if page not in request.url else None)
    view.goto(f"{page}/?__theme={theme}")
    for name in ("music", "footage"):
        view.get_by_role("tab", name=f"Find {name}").click()
        view.set_input_files(f"#{name}-query input[type=file]", clip)
        view.wait_for_selector(f"#{name}-preview video")
        view.click(f"#{name}-find")
        view.wait_for_selector(f"#{name}-found .cmm-hit")
        assert view.locator(f"#{name}-found .cmm-hit").count() == 5
        view.locator(f"#{name}-about").get_by_text("What the model knows").click()
        view.locator(f"#{name}-reason").get_by_text("Why the first one").click()
        view.wait_for_selector(f"#{name}-why img")
        if name == "music":
            view.get_by_text("Mixture and reconstruction").click()
            view.click("#separate")
            view.wait_for_selector("#mixture img")
        assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1")
        view.screenshot(path=shots / f"{name}-{width}-{theme}.png", full_page=True)
    assert not [url for url in outside if not url.startswith(("data:", "blob:", "about:"))]
    view.close()


@pytest.mark.parametrize(("name", "kind"), [("music", "audio"), ("footage", "video")])
def test_a_person_plays_what_was_found_with_the_query(browser, page, clip, name, kind):
    view = browser.new_page()
    view.goto(page)
    view.get_by_role("tab", name=f"Find {name}").click()
    view.set_input_files(f"#{name}-query input[type=file]", clip)
    view.wait_for_selector(f"#{name}-preview video")
    view.click(f"#{name}-find")
    view.locator(f"#{name}-found .cmm-together").nth(1).click()
    hit = f"[...document.querySelectorAll('#{name}-found {kind}')][1]"
    query = f"document.querySelector('#{name}-preview video')"
    view.wait_for_function(f"() => {hit}.currentTime > 0.2 && {query}.currentTime > 0.2")
    assert view.evaluate(f"[{hit}.muted, {query}.muted]") == [name == "footage", name == "music"]
    view.evaluate(f"{query}.pause()")
    view.wait_for_function(f"() => {hit}.paused")
    view.close()


def test_a_person_takes_the_clip_with_a_track_under_it(browser, page, clip):
    view = browser.new_page()
    view.goto(page)
    view.set_input_files("#music-query input[type=file]", clip)
    view.wait_for_selector("#music-preview video")
    view.get_by_text("Take the clip with").click()
    view.click("#fit-make")
    assert "search with a clip first" in view.wait_for_selector("#fit .cmm-mistake").inner_text()
    view.click("#music-find")
    view.wait_for_selector("#music-found .cmm-hit")
    view.click("#fit-make")
    assert "with-music" in view.wait_for_selector("#fit-made .file-preview").inner_text()
    view.close()


def test_a_mistake_stands_where_the_results_were(browser, page, clip, tmp_path):
    bad = tmp_path / "broken.mp4"
    bad.write_bytes(b"not a video" * 100)
    view = browser.new_page()
    view.goto(page)
    view.click("#music-find")
    assert "give a video" in view.wait_for_selector("#music-found .cmm-mistake").inner_text()
    view.set_input_files("#music-query input[type=file]", clip)
    view.wait_for_selector("#music-preview video")
    view.click("#music-find")
    view.wait_for_selector("#music-found .cmm-hit")
    view.get_by_text("How many, and which").first.click()
    view.fill("#music-filter textarea, #music-filter input", "mood=calm")
    view.click("#music-find")
    assert "no item has mood" in view.wait_for_selector("#music-found .cmm-mistake").inner_text()
    assert not view.locator("#music-found .cmm-hit").count()
    view.reload()
    view.set_input_files("#music-query input[type=file]", str(bad))
    assert "cannot be used" in view.wait_for_selector("#music-preview .cmm-mistake").inner_text()
    view.close()
