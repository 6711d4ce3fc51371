"""Each test runs twice: on an embedded file, and on a server that it starts and stops."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from torch import nn

pytest.importorskip("pymilvus", reason="a Milvus index needs pymilvus")
pytest.importorskip("milvus_lite", reason="the tests need milvus-lite")

from cmmixer_hf.search.faiss_store import FaissStore
from cmmixer_hf.search.filters import Interval
from cmmixer_hf.search.index import DamagedIndexError, RetrievalIndex, known_files, update_index
from cmmixer_hf.search.index_facts import IndexFacts, ModelMismatchError
from cmmixer_hf.search.index_rows import POOLED, SEGMENTS, Candidates, make_rows, matrix
from cmmixer_hf.search.milvus_store import OWNER, MilvusError, MilvusStore

FACTS = IndexFacts("here", num_segments=4, size=16, identity="abc", collection="tracks")
# What a filter language could stumble over.
TITLES = ['He said "no"', "back\\slash", "größer = kleiner", "tab\there", "it's", "x" * 600, "{} %s", "夜曲"]


def rows(count: int, seed: int = 0, prefix: str = "/library/") -> pa.Table:
    generator = torch.Generator().manual_seed(seed)
    embeds = nn.functional.normalize(torch.randn(count, 4, 16, generator=generator), dim=-1)
    items = [
        {"path": f"{prefix}{number // 2}", "start": 10.0 * (number % 2), "end": 10.0 * (number % 2) + 10}
        | {"title": TITLES[number // 2 % len(TITLES)], "tags": ["odd" if number // 2 % 2 else "even", "all"]}
        | {"number": number // 2}
        for number in range(count)
    ]
    return make_rows(items, embeds, [f"stamp {seed}"] * count, "float32")


@contextmanager
def serve(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """`milvus-lite server` on this machine alone, until the block ends."""
    program = Path(sys.executable).with_name("milvus-lite")
    command = [program, "server", "--data-dir", folder, "--host", "127.0.0.1", "--port", str(port)]
    with (folder.parent / "server.log").open("ab") as log:
        server = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log)
    try:
        while True:
            assert server.poll() is None, (folder.parent / "server.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield server
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module", params=["file", "server"])
def uri(request, tmp_path_factory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("milvus")
    if request.param == "file":
        yield str(folder / "tracks.db")
    else:
        port = free_port()
        with serve(folder / "data", port):
            yield f"http://127.0.0.1:{port}"


@pytest.fixture
def facts(uri, request) -> IndexFacts:
    """A collection of this test's own."""
    return replace(FACTS, uri=uri, collection="".join(filter(str.isalpha, request.node.name)))


@contextmanager
def filled(facts: IndexFacts, *tables: pa.Table) -> Iterator[MilvusStore]:
    with closing(MilvusStore(facts)) as store:
        store.create()
        store.update(tables, frozenset())
        yield store


def ask(store, query, k: int, where) -> Candidates:
    (found,) = store.candidates(query[None], k, where)
    return found


def found(candidates: Candidates) -> set[tuple]:
    return {(*candidates.place(number), candidates.metadata(number)) for number in range(len(candidates))}


def ranked(candidates: Candidates) -> torch.Tensor:
    """Segments in the order of their places, which both stores share."""
    return candidates.segments[sorted(range(len(candidates)), key=candidates.place)]


def test_it_finds_what_the_files_find(facts):
    table = rows(60)
    files = FaissStore.from_rows(table)
    queries = matrix(rows(5, seed=9)[POOLED].chunk(0))
    with filled(facts, table) as store:
        assert len(store) == 60
        assert store.files() == files.files()
        for query in queries:
            expected, got = ask(files, query, 20, {}), ask(store, query, 20, {})
            assert found(got) == found(expected)
            torch.testing.assert_close(ranked(got), ranked(expected))
        for where in ({"title": [title]} for title in TITLES):
            assert found(ask(store, query, 20, where)) == found(ask(files, query, 20, where))
        places = ({"start": [Interval(low=10)]}, {"path": ["/library/3", "/library/30"]})
        for where in ({"number": [Interval(5, 20, high_open=True), "25"]}, *places):
            assert found(ask(store, query, 20, where)) == found(ask(files, query, 20, where))
        several = {"title": TITLES[:3], "tags": ["odd"]}
        assert found(ask(store, query, 20, several)) == found(ask(files, query, 20, several))
        assert len(ask(store, query, 20, {"title": ["none"]})) == 0


@pytest.mark.parametrize("index_type", ["ivf", "hnsw"])
def test_a_filter_loses_nothing(facts, index_type):
    table = rows(400)
    (query,) = matrix(rows(1, seed=9)[POOLED].chunk(0))
    with filled(replace(facts, index_type=index_type), table) as store:
        assert len(ask(store, query, 150, {"tags": ["odd"]})) == 150
        assert len(ask(store, query, 400, {"tags": ["even"]})) == 200
        assert len(ask(store, query, 400, {})) == 400


def test_an_update_replaces_and_removes(facts):
    with filled(facts, rows(10)) as store:
        shorter = rows(3, seed=1)  # files 0 and 1, the latter with one section instead of two
        store.update([shorter], {"/library/0", "/library/1", "/library/4"})
        stamps = {path: stamp for path, (stamp, _) in store.files().items()}
        assert stamps == {
            **{f"/library/{number}": "stamp 1" for number in (0, 1)},
            **{f"/library/{number}": "stamp 0" for number in (2, 3)},
        }
        assert len(store) == 3 + 4
        store.update([shorter], {"/library/0", "/library/1", "/library/4"})  # as after a kill
        assert len(store) == 7
        (both,) = store.tables({"/library/0"})
        assert both.sort_by("start").equals(shorter.slice(0, 2))


def test_an_index_lives_in_it(facts, tmp_path):
    table = rows(40)
    assert known_files(tmp_path, facts) == {}
    update_index(tmp_path, facts, [table])
    index = RetrievalIndex.load(tmp_path)
    query = torch.from_numpy(matrix(table[SEGMENTS].chunk(0))[7].reshape(4, 16).copy())
    with closing(index.store):
        matches = index.search(query, k=12)
        assert (matches[0].item["path"], matches[0].position) == ("/library/3", "0:10-0:20")
        assert matches[0].score == pytest.approx(1)
        assert len({match.item["path"] for match in matches}) == 12
        assert {match.title for match in index.search(query, where={"title": "it's"})} == {"it's"}
        with pytest.raises(ValueError, match="lie in Milvus"):
            index.save(tmp_path / "copy")
    update_index(tmp_path, facts, [], drop={"/library/5"}, metadata={"/library/3": '{"title": "renamed"}'})
    known = known_files(tmp_path, facts)
    assert known["/library/3"] == ("stamp 0", '{"title": "renamed"}')
    assert "/library/5" not in known
    assert len(known) == 19
    index = RetrievalIndex.load(tmp_path)
    with closing(index.store):
        assert index.search(query, where={"title": "renamed"})[0].score == pytest.approx(1)


def test_collections_of_others_are_left_alone(facts, tmp_path):
    from pymilvus import MilvusClient

    with closing(MilvusClient(facts.uri)) as client:
        client.create_collection(facts.collection, dimension=8)
    with pytest.raises(DamagedIndexError, match="is not an index"):
        known_files(tmp_path, facts)


def test_a_collection_of_an_earlier_reading_is_known_and_not_added_to(facts, tmp_path):
    """The first version of reading files was not noted."""
    with filled(facts, rows(4)) as store:
        note = {name: value for name, value in asdict(facts).items() if name != "sampling_version"}
        store.client.alter_collection_properties(facts.collection, properties={OWNER: json.dumps(note)})
        assert store.owner() == replace(facts, sampling_version=1)
    with pytest.raises(ModelMismatchError, match="sampling_version 1, not 2"):
        known_files(tmp_path, facts)


def test_a_collection_that_is_gone_is_named(facts, tmp_path):
    update_index(tmp_path, facts, [rows(2)])
    with closing(MilvusStore(facts)) as store:
        store.client.drop_collection(facts.collection)
    with pytest.raises(DamagedIndexError, match=f"no collection {facts.collection}"):
        RetrievalIndex.load(tmp_path)


def test_no_server_is_one_line():
    with pytest.raises(MilvusError, match=r"failed to connect.*start it") as caught:
        MilvusStore(replace(FACTS, uri=f"http://127.0.0.1:{free_port()}"))
    assert "\n" not in str(caught.value)


def test_a_server_that_is_killed_keeps_what_was_written(tmp_path):
    data, port = tmp_path / "data", free_port()
    facts = replace(FACTS, uri=f"http://127.0.0.1:{port}")
    with serve(data, port) as server:
        update_index(tmp_path / "index", facts, [rows(40)])
        os.kill(server.pid, signal.SIGKILL)
    with serve(data, port), closing(RetrievalIndex.load(tmp_path / "index").store) as store:
        assert len(store) == 40
    shutil.rmtree(data)
