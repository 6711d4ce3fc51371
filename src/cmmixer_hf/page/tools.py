"""The page's functions for programs, by plain names and with typed arguments: over HTTP, and as MCP tools."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import gradio as gr
import httpx

from .finder import Finder, Question, UsersMistakeError

PLAYABLE = ["video", "audio"]


async def to_cache(move: Callable, cache: str, address: str | Path | None) -> str | None:
    """A file that a program names by its address, in Gradio's cache.

    Gradio 6.31 fetches none from this machine, for safety; a program that speaks MCP can name a file in no other way,
    so that the address that an upload to this page returned is accepted.

    Args:
        move: what Gradio does with an address.
        cache: folder of what was uploaded.
        address: of the web, or of the page.

    Raises:
        Error: it cannot be fetched.
    """
    _, uploaded, path = str(address).partition("/gradio_api/file=")
    path = unquote(path)
    if uploaded and Path(path).resolve().is_relative_to(Path(cache).resolve()):
        address = path
    try:
        return await move(address)
    except (ValueError, OSError, httpx.HTTPError) as error:
        raise _told(f"this file cannot be fetched ({error}): upload it to this page, and give its address") from None


class Tools:
    """What programs can call; arguments that were left empty come as `None`.

    Args:
        music: index of tracks.
        footage: index of clips.
    """

    def __init__(self, music: Finder | None, footage: Finder | None):
        self.music, self.footage = music, footage

    def find_music(self, clip: str | None, words: str, filters: str, count: float) -> list[dict[str, Any]]:
        """Find music for a video clip, for a track, or for words.

        Args:
            clip: video whose picture asks for music, or a track for others like it.
            words: what the music is like beside, where the model knows words.
            filters: what a track must have, between semicolons, such as bpm=90..120; duration<180; genre=jazz.
            count: how many tracks to find.
        """
        return _answer(self.music, Question(clip, words, filters=filters, count=int(count)))

    def find_music_by_words(self, words: str, filters: str, count: float) -> list[dict[str, Any]]:
        """Find music that words describe.

        Args:
            words: what the music is like.
            filters: what a track must have, between semicolons, such as bpm=90..120; duration<180; genre=jazz.
            count: how many tracks to find.
        """
        return _answer(self.music, Question(None, words, filters=filters, count=int(count)))

    def find_footage(self, sound: str | None, words: str, filters: str, count: float) -> list[dict[str, Any]]:
        """Find footage for a track, for the sound of a video, or for words.

        Args:
            sound: track that asks for footage, or a video whose sound does.
            words: what is seen in the footage beside, where the model knows words.
            filters: what a clip must have, between semicolons, such as duration<30; height>=720.
            count: how many clips to find.
        """
        return _answer(self.footage, Question(sound, words, filters=filters, count=int(count)))

    def fit_music(self, clip: str | None, track: str, start: float, keep_sound: bool) -> str:
        """Lay a track that was found under a video clip: cut on a beat, faded, as loud as the clip was.

        Args:
            clip: video whose picture is kept.
            track: the id of a track, as find_music gives it.
            start: second of the track from which it plays, as find_music gives it.
            keep_sound: whether the clip's own sound stays, with the music lower under it.
        """
        if self.music is None or not clip:
            raise _told("give a video, and start the page with an index of music")
        try:
            return self.music.fit(clip, track, float(start), duck=keep_sound)
        except UsersMistakeError as mistake:
            raise _told(str(mistake)) from None

    def describe_library(self) -> dict[str, Any]:
        """What the indexes hold, what their filters know, and what the model was trained on and does not know."""
        finders = {"music": self.music, "footage": self.footage}
        return {name: finder.about() for name, finder in finders.items() if finder}


def add_tools(music: Finder | None, footage: Finder | None) -> None:
    """Tools beside the page that is being built; what somebody does in a browser goes another way."""
    tools = Tools(music, footage)
    with gr.Row(visible=False):
        file, words, filters = gr.File(file_types=PLAYABLE), gr.Textbox(""), gr.Textbox("")
        # Of this one alone; a class of its own would have Gradio write a stub beside this file whenever it is imported.
        move = partial(to_cache, file.async_move_resource_to_block_cache, file.GRADIO_CACHE)
        file.async_move_resource_to_block_cache = move  # type: ignore[method-assign]
        count, results, track, start = gr.Number(5), gr.JSON(), gr.Textbox(), gr.Number(0)
        calls: list[tuple[Callable, list, Any]] = [
            (tools.find_music, [file, words, filters, count], results),
            (tools.find_footage, [file, words, filters, count], results),
            (tools.fit_music, [file, track, start, gr.Checkbox()], gr.File()),
            (tools.describe_library, [], results),
        ]
        if music and music.knows_words:
            calls.append((tools.find_music_by_words, [words, filters, count], results))
        for function, inputs, output in calls:
            gr.Button().click(function, inputs, output, api_name=function.__name__)


def _answer(finder: Finder | None, question: Question) -> list[dict[str, Any]]:
    if finder is None:
        raise _told("this page has no such index")
    try:
        return [finder.describe(match) for match in finder.find(question)]
    except UsersMistakeError as mistake:
        raise _told(str(mistake)) from None


def _told(mistake: str) -> gr.Error:
    """A mistake as Gradio tells it, without a traceback in the log."""
    return gr.Error(mistake, print_exception=False)
