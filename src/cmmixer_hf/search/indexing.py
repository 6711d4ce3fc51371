"""`cmmixer index`: a library → an index, on all processes, resumable, and brought up to date by later runs.

Each process embeds its share of the files and keeps what is done under `INDEX/unfinished` (which all must reach). When
all are done, the first one makes the index of it in one step.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import Timeout

from ..data.batches import SourceError
from ..files import locked, read_csv, write_csv
from ..media.reading import MediaError
from ..progress import Progress, print_left_out
from ..settings import IndexSettings
from .background import background_queries
from .embedders.computing import COMPUTES, computing_in
from .embedders.embedder import MODALITIES, Embedder, open_embedder
from .embedding import Cutting, embed_files
from .faiss_store import INDEX_TYPES
from .index import RetrievalIndex, known_files, update_index
from .index_facts import IndexFacts, has_facts, read_facts
from .index_rows import MEASURED, PRECISIONS, metadata_json
from .library import LibraryFile, read_library, same_stamp, stamp
from .measuring import MEASURES
from .unfinished import PartWriter, Unfinished

LEFT_OUT = "left_out.csv"
SECTION_SECONDS = 30.0
LONGEST_WAIT = timedelta(days=30)  # of a process for the slowest one


@dataclass
class Plan:
    """What a run has to do.

    Args:
        stamps: of the files to embed, which are new or changed.
        todo: those of them that no earlier run has embedded already.
        relabel: files whose metadata alone has changed, with the new metadata as JSON.
        drop: paths whose present rows go.
        unchanged: paths whose present rows stay, relabelled or not.
        vanished: paths in the index that the library does not have.
        errors: of files that cannot be opened.
    """

    stamps: dict[str, str] = field(default_factory=dict)
    todo: list[LibraryFile] = field(default_factory=list)
    relabel: dict[str, str] = field(default_factory=dict)
    drop: set[str] = field(default_factory=set)
    unchanged: set[str] = field(default_factory=set)
    vanished: set[str] = field(default_factory=set)
    errors: dict[str, list[str]] = field(default_factory=dict)


def build_index(settings: IndexSettings) -> None:
    """Embed what is new or changed in a library and save the index; files that cannot be used are named.

    Raises:
        SourceError: the library, the model or a setting cannot be used.
        MediaError: no file of the library can be used.
        ModelMismatchError: the index was made by another model or in another way.
    """
    _check(settings)
    folder = Path(settings.index)
    old = read_facts(folder)[0] if has_facts(folder) else None
    modality = settings.modality or (old.modality if old else MODALITIES[1])
    library, notes = read_library(settings.library, modality)
    # Without `cpu`, accelerate does not join processes that have no accelerator.
    state = PartialState(cpu=not torch.accelerator.is_available())
    embedder = open_embedder(
        settings.model, state.device, num_segments=settings.num_segments or (old.num_segments if old else None)
    )
    facts = _facts(settings, embedder, modality, old)
    unfinished = Unfinished(folder / "unfinished", facts)
    with _alone(folder) if state.is_main_process else nullcontext():
        plan = _plan(library, settings, facts, unfinished) if state.is_main_process else None
        (plan,) = broadcast_object_list([plan])
        share = plan.todo[state.process_index :: state.num_processes]
        with computing_in(embedder, settings.compute):
            _embed(share, plan.stamps, embedder, settings, unfinished, quiet=not state.is_main_process)
        _wait_for_everyone(state)
        if state.is_main_process:
            print("\n".join(notes), end="\n" if notes else "")
            _finish(plan, facts, folder, unfinished, embedder)


def _check(settings: IndexSettings) -> None:
    precisions = ("float32",) if settings.uri else PRECISIONS  # Milvus keeps whole numbers
    choices = {"modality": MODALITIES, "index_type": INDEX_TYPES, "measure": MEASURES, "precision": precisions}
    choices["compute"] = COMPUTES
    for name, allowed in ((name, (*words, None)) for name, words in choices.items()):
        if getattr(settings, name) not in allowed:
            words = ", ".join(filter(None, allowed))
            raise SourceError(f"--{name} must be one of {words}, got {getattr(settings, name)}")
    seconds, hop = settings.section_seconds, settings.section_hop
    if not (seconds is None or seconds >= 0) or not (hop is None or hop > 0):  # NaN is neither
        raise SourceError(f"--section_seconds must be 0 or more and --section_hop more than 0, got {seconds} and {hop}")


def _facts(settings: IndexSettings, embedder: Embedder, modality: str, old: IndexFacts | None) -> IndexFacts:
    """What the index will be; settings that are not given stay as they are."""
    uri = settings.uri if settings.uri is None or "://" in settings.uri else os.path.abspath(settings.uri)
    if old and uri and uri != old.uri:
        raise SourceError(
            f"{settings.index} keeps its items in {old.uri or 'files'}, not in {uri}: choose another folder"
        )
    uri = old.uri if old else uri
    seconds, hop = settings.section_seconds, settings.section_hop
    if seconds is None:
        seconds, hop = (old.section_seconds, hop or old.section_hop) if old else (SECTION_SECONDS, hop)
    return IndexFacts(
        model=os.path.abspath(embedder.name) if Path(embedder.name).is_dir() else embedder.name,
        num_segments=embedder.num_segments,
        size=embedder.size,
        identity=embedder.identity,
        modality=modality,
        section_seconds=seconds or None,
        section_hop=(hop or seconds / 2) if seconds else None,
        index_type=settings.index_type or (old.index_type if old else INDEX_TYPES[0]),
        uri=uri,
        collection=settings.collection or (old.collection if old else None) or ("cmmixer" if uri else None),
        precision=settings.precision or (old.precision if old else "float32" if uri else "float16"),
    )


def _wait_for_everyone(state: PartialState) -> None:
    """Wait until all have done their share: one may need hours more than the timeout of a process group."""
    if state.num_processes > 1:
        torch.distributed.barrier(torch.distributed.new_group(backend="gloo", timeout=LONGEST_WAIT))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a second run off the same index."""
    try:
        with locked(folder / ".lock", patience=0):
            yield
    except Timeout as error:
        raise SourceError(f"another run is writing {folder}: wait for it, or stop it") from error


def _plan(library: list[LibraryFile], settings: IndexSettings, facts: IndexFacts, unfinished: Unfinished) -> Plan:
    """Compare the library with the index and with what an earlier run has left."""
    known = known_files(settings.index, facts)
    unfinished.claim()
    done = unfinished.done()
    plan = Plan(vanished=known.keys() - {file.path for file in library})
    for file in Progress(library, desc="comparing", unit="file", disable=not settings.content_hash):
        try:
            now = "" if file.error else stamp(file.path, content=settings.content_hash)
        except (OSError, ValueError) as error:  # a name may hold a null byte
            file = replace(
                file, error=f"{file.path}: {getattr(error, 'strerror', None) or error}; take it off the list"
            )
        if file.error:
            plan.errors[file.path] = [file.error]
            continue
        before, metadata = known.get(file.path, (None, None))
        if before is not None and same_stamp(before, now):
            plan.unchanged.add(file.path)
            measured = json.loads(metadata or "{}").get(MEASURED, {})
            if metadata != (now_known := metadata_json(replace(file, measured=measured).known)):
                plan.relabel[file.path] = now_known
            continue
        plan.stamps[file.path] = now
        if done.get(file.path) != now:
            plan.todo.append(file)
    plan.drop = known.keys() & plan.stamps.keys()
    if settings.remove_vanished:
        plan.drop |= plan.vanished
    return plan


def _embed(
    files: list[LibraryFile],
    stamps: dict[str, str],
    embedder: Embedder,
    settings: IndexSettings,
    unfinished: Unfinished,
    *,
    quiet: bool,
) -> None:
    facts = unfinished.facts
    cutting = Cutting(facts.modality, facts.section_seconds, facts.section_hop, settings.measure)
    options: dict[str, Any] = {"batch_size": settings.batch_size, "num_workers": settings.num_workers}
    with (
        PartWriter(unfinished) as writer,
        Progress(total=len(files), desc="embedding", unit="section", disable=quiet or not files) as bar,
    ):
        for done in embed_files(files, embedder, cutting, **options, progress=SectionBar(bar, len(files))):
            writer.add(done, stamps[done.file.path])


class SectionBar:
    """Updates a bar of sections; files not yet opened are estimated to have the average number of sections."""

    def __init__(self, bar: Progress, files: int) -> None:
        self.bar, self.files, self.begun, self.known = bar, files, 0, 0

    def __call__(self, opened: int, settled: int) -> None:
        """A file of `opened` sections was begun (0: none), and `settled` sections are done."""
        if opened:
            self.begun, self.known = self.begun + 1, self.known + opened
            self.bar.total = round(self.known * max(self.files, self.begun) / self.begun)
        self.bar.update(settled)


def _finish(plan: Plan, facts: IndexFacts, folder: Path, unfinished: Unfinished, embedder: Embedder) -> None:
    """Make the index of everything that was embedded, and print a summary."""
    errors = plan.errors | unfinished.errors(plan.stamps)
    embedded = {path for rows in unfinished.rows(plan.stamps) for path in rows["path"].to_pylist()}
    _write_left_out(folder / LEFT_OUT, errors, keep=plan.unchanged | plan.vanished - plan.drop)
    print_left_out(list(chain.from_iterable(errors.values())), folder / LEFT_OUT)
    if not embedded and not plan.unchanged and plan.vanished <= plan.drop:
        unfinished.clear()
        raise MediaError(str(folder), "no file is usable for it", "see the reasons above")
    if embedded or plan.drop or plan.relabel or not has_facts(folder) or read_facts(folder)[0] != facts:
        update_index(folder, facts, unfinished.rows(plan.stamps), drop=plan.drop, metadata=plan.relabel)
        index = RetrievalIndex.load(folder)
        index.measure_background(background_queries(embedder))
        index.save_background(folder)
        index.store.close()
    unfinished.clear()
    print(_summary(plan, len(embedded), len(errors)))
    print(f"{len(RetrievalIndex.load(folder))} items in {folder}")


def _summary(plan: Plan, embedded: int, left_out: int) -> str:
    removed = len(plan.vanished & plan.drop)
    counts = {
        "embedded": embedded,
        "unchanged": len(plan.unchanged),
        "of these with new metadata": len(plan.relabel),
        "left out in whole or in part": left_out,
        "removed": removed,
        "no more in the library (--remove_vanished takes them out)": len(plan.vanished) - removed,
    }
    return "files: " + ", ".join(f"{count} {words}" for words, count in counts.items() if count)


def _write_left_out(path: Path, errors: dict[str, list[str]], keep: set[str]) -> None:
    """The table of files that could not be used; lines of files that this run did not read stay."""
    lines = [line for line in read_csv(path)[1:] if line[0] in keep and line[0] not in errors]
    lines += [[name, reason] for name, reasons in errors.items() for reason in reasons]
    write_csv(path, [["path", "reason"], *sorted(lines)])
