import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import nn

pytest.importorskip("faiss", reason="the index needs faiss-cpu")

from cmmixer_hf.search import faiss_store
from cmmixer_hf.search.faiss_store import BLOCK_BYTES, BLOCKS, INDEX_TYPES, FaissStore, file_facts, sweep, update
from cmmixer_hf.search.index_facts import DamagedIndexError
from cmmixer_hf.search.index_rows import POOLED, Candidates, make_rows, matrix

GROUPS = 7


def clustered(count: int, seed: int = 0) -> torch.Tensor:
    """Clips (count, 4, 16) around as many centres as a hundredth of them."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(max(1, count // 100), 1, 16, generator=generator)
    owners = torch.randint(len(centres), (count,), generator=generator)
    return nn.functional.normalize(centres[owners] + 0.7 * torch.randn(count, 4, 16, generator=generator), dim=-1)


def rows(count: int, seed: int = 0, prefix: str = "") -> pa.Table:
    items = [{"path": f"{prefix}{number}", "group": number % GROUPS} for number in range(count)]
    return make_rows(items, clustered(count, seed), [f"{seed}"] * count)


def paths(table: pa.Table) -> list[str]:
    return table["path"].to_pylist()


def listed(found: Candidates) -> set[str]:
    return {found.place(number)[0] for number in range(len(found))}


def find(store: FaissStore, query: np.ndarray, k: int, where=()) -> set[str]:
    (found,) = store.candidates(query[None], k, dict(where))
    return listed(found)


def brute_force(table: pa.Table, query: np.ndarray, k: int, group: int | None = None) -> set[str]:
    vectors = np.concatenate([matrix(chunk) for chunk in table[POOLED].chunks])
    order = np.argsort(-(vectors @ query), kind="stable").tolist()
    names = paths(table)
    return set([names[place] for place in order if group is None or place % GROUPS == group][:k])


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Rows in several chunks, as several parts have them."""
    whole = rows(3000)
    return pa.concat_tables([whole.slice(0, 1000), whole.slice(1000, 1500), whole.slice(2500)])


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return nn.functional.normalize(clustered(3000, seed=0)[::300].mean(1), dim=-1).numpy()


def test_flat_compares_with_everything(table, queries):
    store = FaissStore.from_rows(table)
    for query in queries:
        assert find(store, query, 50, {}) == brute_force(table, query, 50)


@pytest.mark.parametrize("index_type", INDEX_TYPES)
def test_a_filter_loses_nothing(table, queries, index_type):
    store = FaissStore.from_rows(table, index_type)
    for group, query in enumerate(queries[: GROUPS + 1]):
        found = find(store, query, 100, {"group": [group]})
        assert found == brute_force(table, query, 100, group)
    assert len(find(store, queries[0], 3000, {"group": [0]})) == sum(number % GROUPS == 0 for number in range(3000))


@pytest.mark.parametrize("index_type", ["ivf", "hnsw"])
def test_approximate_ones_miss_little_and_return_enough(table, queries, index_type):
    store = FaissStore.from_rows(table, index_type)
    shares = [len(find(store, query, 100, {}) & brute_force(table, query, 100)) for query in queries]
    assert np.mean(shares) > 90
    assert len(find(store, queries[0], 3000, {})) == 3000


def test_few_rows_will_do_for_every_type():
    for index_type in INDEX_TYPES:
        store = FaissStore.from_rows(rows(3), index_type)
        assert len(find(store, np.ones(16, np.float32), 10, {})) == 3
    with pytest.raises(ValueError, match="flat, ivf, hnsw, got 'tree'"):
        FaissStore.from_rows(rows(3), "tree")


def test_saved_and_opened_it_finds_the_same(table, queries, tmp_path):
    for index_type in INDEX_TYPES:
        store = FaissStore.from_rows(table, index_type)
        opened = FaissStore.open(tmp_path, json.loads(json.dumps(store.save(tmp_path))))
        for query in queries[:3]:
            assert find(opened, query, 20) == find(store, query, 20)
        assert opened.files() == store.files()


def test_an_update_leaves_full_parts_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(faiss_store, "ROWS_PER_PART", 100)
    before = FaissStore.from_rows(rows(350)).save(tmp_path)
    drop = {"120", "349"}
    files = update(tmp_path, before, [rows(30, seed=1, prefix="new"), rows(5, seed=2, prefix="newer")], drop, "flat")
    assert len([name for name in before if name in files]) == 2  # of the parts 0-99, 100-199, 200-299, 300-349
    assert all((tmp_path / name).exists() for name in before)
    store = FaissStore.open(tmp_path, files)
    expected = {f"{number}" for number in range(350)} - drop
    expected |= {f"new{number}" for number in range(30)} | {f"newer{number}" for number in range(5)}
    assert set(store.files()) == expected
    assert len(store) == len(expected)
    assert {stamp for stamp, _ in store.files().values()} == {"0", "1", "2"}
    assert sorted(len(faiss_store.read_part(tmp_path / name)) for name in files if "part" in name) == [
        83,
        100,
        100,
        100,
    ]
    sweep(tmp_path, files)
    assert {path.name for path in tmp_path.iterdir()} == set(files)
    query = matrix(rows(30, seed=1)[POOLED].chunk(0))[4]
    assert find(store, query, 1, {}) == {"new4"}


def test_sweeping_spares_what_is_not_ours(tmp_path):
    for name in ("part-000000000000.arrow", "pooled-000000000000.faiss", ".part-1.partial-7.arrow", "my part.arrow"):
        (tmp_path / name).write_text("x")
    sweep(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["my part.arrow"]


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "delete"])
@pytest.mark.parametrize("pattern", ["part-*.arrow", "pooled-*.faiss"])
def test_harm_is_noticed(tmp_path, harm, pattern):
    files = FaissStore.from_rows(rows(50)).save(tmp_path)
    (path,) = tmp_path.glob(pattern)
    data = path.read_bytes()
    middle = len(data) // 2
    if harm == "delete":
        path.unlink()
    else:
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"flip": flipped, "cut": data[:-1], "empty": b""}[harm])
    with pytest.raises(DamagedIndexError, match=rf"damaged, {path.name} is not the file.*build it again"):
        FaissStore.open(tmp_path, files)


def test_a_large_file_is_known_by_samples(tmp_path):
    path = tmp_path / "large"
    size = 40 * BLOCKS * BLOCK_BYTES
    with path.open("wb") as file:
        file.truncate(size)
    before = file_facts(path)
    with path.open("r+b") as file:
        file.seek(size - 1)
        file.write(b"\1")  # the end is what a full disk takes
    assert file_facts(path) != before
    with path.open("r+b") as file:
        file.truncate(size - 1)
    assert file_facts(path)[0] == size - 1
    assert file_facts(tmp_path / "none") is None


def test_many_queries_at_once_find_what_each_finds_alone(table, queries, monkeypatch):
    monkeypatch.setattr(faiss_store, "ROWS_AT_ONCE", 700)
    monkeypatch.setattr(faiss_store, "SCORES_AT_ONCE", 3 * 3000)
    for index_type in INDEX_TYPES:
        store = FaissStore.from_rows(table, index_type)
        for where in ({}, {"group": [3, 4]}):
            for query, found in zip(queries, store.candidates(queries, 50, where), strict=True):
                assert listed(found) == find(store, query, 50, where)
