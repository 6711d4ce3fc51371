"""Embeddings of an unfinished run: parts in a folder, each whole or absent, with which the next run continues."""

import json
import shutil
import time
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from ..files import atomic_file
from .embedding import FileEmbeddings
from .faiss_store import read_part, write_part
from .index_facts import IndexFacts
from .index_rows import make_rows, row_schema

# At most so much is lost when the run is killed, and so many wait in memory.
SECONDS_PER_PART, SECTIONS_PER_PART = 30.0, 4096
ERRORS = b"errors"  # in a part's schema: path → [stamp, reasons]


class Unfinished:
    """A folder of parts: rows of files that are done, and what was wrong with some.

    Args:
        folder: is made when something is written.
        facts: what the embeddings are.
    """

    def __init__(self, folder: Path, facts: IndexFacts):
        self.folder = folder
        self.facts = facts

    def claim(self) -> None:
        """Record what is being embedded.

        Raises:
            ModelMismatchError: the folder holds embeddings of another model, or that were made in another way.
        """
        note = self.folder / "facts.json"
        if note.is_file():
            IndexFacts.from_note(json.loads(note.read_text())).check_same_embeddings(self.facts, str(self.folder))
        with atomic_file(note) as partial:
            partial.write_text(json.dumps(asdict(self.facts)))

    def done(self) -> dict[str, str]:
        """The stamp of every file that is done, by path."""
        stamps: dict[str, str] = {}
        for part in self._parts():
            stamps |= dict(zip(part["path"].to_pylist(), part["stamp"].to_pylist(), strict=True))
            stamps |= {path: stamp for path, (stamp, _) in _errors(part).items()}
        return stamps

    def rows(self, stamps: Mapping[str, str]) -> Iterator[pa.Table]:
        """Rows of the files that are named, as far as they were embedded in the state that is named."""
        for part in self._parts():
            places = zip(part["path"].to_pylist(), part["stamp"].to_pylist(), strict=True)
            wanted = pa.array([stamps.get(path) == stamp for path, stamp in places], pa.bool_())
            rows = part if pc.all(wanted).as_py() else part.filter(wanted)
            yield rows.replace_schema_metadata(None)  # an index has no use for what was wrong with other files

    def errors(self, paths: Container[str]) -> dict[str, list[str]]:
        """What was wrong with the files that are named, by path."""
        reasons_of: dict[str, list[str]] = {}
        for part in self._parts():
            reasons_of |= {path: reasons for path, (_, reasons) in _errors(part).items() if path in paths}
        return reasons_of

    def clear(self) -> None:
        """Throw everything away."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _parts(self) -> Iterator[pa.Table]:
        for path in sorted(self.folder.glob("part-*.arrow")):
            yield read_part(path)


class PartWriter:
    """Collects files of one process and writes them as a part every so often, and in the end (`with`)."""

    def __init__(self, unfinished: Unfinished):
        self.unfinished = unfinished
        self._tables: list[pa.Table] = []
        self._errors: dict[str, tuple[str, list[str]]] = {}
        self._last = time.monotonic()

    def __enter__(self) -> "PartWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, done: FileEmbeddings, stamp: str) -> None:
        """Take a file's sections and what is wrong with it."""
        path = done.file.path
        items = [done.file.known | {"path": path, "start": start, "end": end} for start, end in done.places]
        if items:
            self._tables.append(
                make_rows(items, torch.stack(done.embeds), [stamp] * len(items), self.unfinished.facts.precision)
            )
        if done.errors:
            self._errors[path] = (stamp, done.errors)
        waiting = sum(map(len, self._tables))
        if waiting >= SECTIONS_PER_PART or time.monotonic() - self._last >= SECONDS_PER_PART:
            self.flush()

    def flush(self) -> None:
        """Write what was collected since the last part."""
        if self._tables or self._errors:
            facts = self.unfinished.facts
            empty = row_schema(facts.num_segments, facts.size, facts.precision).empty_table()
            rows = pa.concat_tables([empty, *self._tables])
            write_part(self.unfinished.folder, rows.replace_schema_metadata({ERRORS: json.dumps(self._errors)}))
        self._tables, self._errors, self._last = [], {}, time.monotonic()


def _errors(part: pa.Table) -> dict[str, tuple[str, list[str]]]:
    return json.loads(part.schema.metadata[ERRORS])
