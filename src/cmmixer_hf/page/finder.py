"""Questions of the page and of programs to an index, and messages about mistakes."""

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..data.prepared_clips import SourceError
from ..media.reading import MediaError, probe
from ..search.filters import parse_conditions
from ..search.fit import lay_under
from ..search.index import Match
from ..search.searcher import QueryPart, Searcher

BETWEEN_FILTERS = re.compile(r"[;\n]")
A_PATH = re.compile(r"(?:[A-Za-z]:)?[\\/](?:[^\s\\/:;,'\"]+[\\/])+")
# What a match shows of its file beside title and place, each with its unit.
SHOWN_FACTS = {
    "artist": "{}",
    "album": "{}",
    "genre": "{}",
    "bpm": "{} bpm",
    "bpm_confidence": "confidence {}",
    "key": "key {}",
    "loudness": "{} LUFS",
    "licence": "{}",
}


class UsersMistakeError(ValueError):
    """What somebody asked cannot be answered; the message says what to do, and holds no path of this machine."""


@dataclass(frozen=True)
class Question:
    """What is asked of an index: a file, words, or both; more of one thing and less of another; how many, and which.

    Args:
        path: of a video or sound, or nothing.
        words: what is looked for; with a file, what is wanted beside it.
        plus, minus: files whose sound is wanted too, or not wanted.
        weight: of these, and of the words beside a file.
        filters: conditions as `filters.parse_conditions` reads them, between semicolons.
        count: items to find.
    """

    path: str | None = None
    words: str | None = ""
    plus: str | None = None
    minus: str | None = None
    weight: float = 1.0
    filters: str | None = ""
    count: int = 5


class Finder:
    """An index and its model, as the page asks them.

    Args:
        folder: of the index.
        modality: `"audio"` or `"video"`, what it must hold.
        model: the index's model, where it is not in its place any more.

    Raises:
        SourceError: it is an index of the other kind, or its model is not there.
        DamagedIndexError, ModelMismatchError: as from [`Searcher`].
    """

    def __init__(self, folder: str, modality: str, model: str = ""):
        self.searcher, self.folder, self.modality = Searcher(folder, model or None), folder, modality
        made = self.searcher.index.facts.modality
        if made != modality:
            raise SourceError(
                f"{folder} is an index of {made}, expected {modality}: `cmmixer index … --modality {modality}`"
            )
        self._made = tempfile.TemporaryDirectory(prefix="cmmixer-")  # gone with the page
        paths = map(self.full_path, self.searcher.index.store.files())
        self.files = {file_id(path): path for path in paths}

    @property
    def knows_words(self) -> bool:
        """Whether the model embeds text."""
        return "text" in self.searcher.embedder.modalities

    def find(self, question: Question) -> list[Match]:
        """The best matches, best first.

        Raises:
            UsersMistakeError: the question cannot be answered.
        """
        try:
            query, plus, minus = self._parts(question)
            where = parse_conditions(filter(str.strip, BETWEEN_FILTERS.split(question.filters or "")))
            return self.searcher(query, plus=plus, minus=minus, k=question.count, where=where)
        except MediaError as error:
            raise UsersMistakeError(of_file(error)) from error
        except ValueError as error:  # of filters, of what the model knows, of numbers
            raise UsersMistakeError(without_paths(str(error))) from error

    def _parts(self, question: Question) -> tuple[QueryPart, list[QueryPart], list[QueryPart]]:
        words = (question.words or "").strip()
        if not (question.path or words):
            raise SourceError(f"give a video or a sound file first{', or words' * self.knows_words}")
        if words and not self.knows_words:
            raise SourceError("this model knows no words: ask with a file")
        plus = [self._side(question.plus, question.weight)] if question.plus else []
        minus = [self._side(question.minus, question.weight)] if question.minus else []
        if not question.path:
            return QueryPart(text=words), plus, minus
        text = [QueryPart(text=words, weight=question.weight)] if words else []
        return self.query(question.path), plus + text, minus

    def query(self, path: str) -> QueryPart:
        """A file as a query: the side of it that is not in the index, where it has one and the model knows it."""
        wanted = "video" if self.modality == "audio" else "audio"
        info = probe(path)
        has = {"video": info.has_video, "audio": info.has_audio}
        usable = has[wanted] and wanted in self.searcher.embedder.modalities
        return QueryPart(path, wanted if usable else self.modality)

    def _side(self, path: str, weight: float) -> QueryPart:
        """A file that bends a query, by its sound where it has one."""
        return QueryPart(path, "audio" if probe(path).has_audio else "video", weight)

    def full_path(self, path: str) -> str:
        """Of an indexed file; relative ones start from the index's folder."""
        return os.path.abspath(os.path.join(self.folder, path))

    def describe(self, match: Match) -> dict[str, Any]:
        """A match as programs get it: what is known of its file, an `id` for its path, place, score, standing."""
        path = self.full_path(match.item["path"]) if "path" in match.item else ""
        facts = {key: value for key, value in match.item.items() if key != "path"}
        standing = {} if match.standing is None else {"standing": round(match.standing, 2)}
        return facts | {"title": match.title, "score": round(match.score, 4), "id": file_id(path)} | standing

    def fit(self, clip: str, name: str, start: float, *, duck: bool = False) -> str:
        """A clip with an indexed track under it, as a new temporary file; `name` is the track's id.

        Raises:
            UsersMistakeError: there is no such track, clip or track cannot be used, or the result cannot be written.
        """
        track = self.files.get(name)
        if track is None or self.modality != "audio":
            raise UsersMistakeError("there is no such track: take an id that a search has given")
        output = Path(tempfile.mkdtemp(dir=self._made.name)) / f"{Path(clip).stem}-with-music.mp4"
        try:
            lay_under(clip, track, max(0.0, start), str(output), duck=duck)
        except MediaError as error:
            raise UsersMistakeError(of_file(error)) from error
        except OSError as error:  # such as a full disk
            raise UsersMistakeError(f"the video cannot be written here: {error.strerror}") from error
        return str(output)

    def about(self) -> dict[str, Any]:
        """What model and index are: `model`, `trained_on`, `limits`, `items`, `asks` and the keys of `filters`."""
        embedder = self.searcher.embedder
        card = Path(embedder.name) / "card.yaml"
        facts = yaml.safe_load(card.read_text(encoding="utf-8")) if card.is_file() else {}
        return {
            "model": Path(embedder.name).name,
            "trained_on": facts.get("trained_on", ""),
            "limits": facts.get("limits", []),
            "items": len(self.searcher.index),
            "files": len(self.files),
            "asks": list(embedder.modalities),
            "filters": [key for key in self.searcher.index.filter_keys() if key not in ("path", "end")],
        }


def file_id(path: str) -> str:
    """The id of an indexed file outside this machine."""
    return hashlib.blake2b(os.fsencode(path), digest_size=10).hexdigest()


def facts_in_words(item: dict[str, Any]) -> str:
    """What is known of a match's file, on one line.

    >>> facts_in_words({"artist": "Flan", "bpm": 105.0, "loudness": -19.1, "mood": "calm"})
    'Flan · 105.0 bpm · -19.1 LUFS'
    """
    return " · ".join(form.format(item[key]) for key, form in SHOWN_FACTS.items() if key in item)


def of_file(error: MediaError) -> str:
    """What is wrong with a file that somebody gave."""
    return without_paths(f"this file cannot be used: {error.reason}; {error.advice}")


def without_paths(text: str) -> str:
    """A message without this machine's folders.

    >>> without_paths("/tmp/gradio/ab12/clip.mp4: has no sound; C:\\\\Users\\\\me\\\\model is not there")
    'clip.mp4: has no sound; model is not there'
    """
    return A_PATH.sub("", text)
