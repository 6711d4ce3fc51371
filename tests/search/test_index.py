import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from cmmixer_hf.models.similarity import combine_queries, segment_similarity
from cmmixer_hf.search import index as index_module
from cmmixer_hf.search.index import (
    DamagedIndexError,
    IndexFacts,
    ModelMismatchError,
    RetrievalIndex,
    clock,
    known_files,
    update_index,
)
from cmmixer_hf.search.index_rows import make_rows

pytest.importorskip("faiss", reason="the index needs faiss-cpu")

FACTS = IndexFacts("here", num_segments=4, size=16)


def embeddings(count: int = 50, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, 4, 16, generator=generator), dim=-1)


def build(embeds: torch.Tensor) -> RetrievalIndex:
    items = [{"title": f"track {number}", "path": f"{number}.mp3"} for number in range(len(embeds))]
    return RetrievalIndex.build(items, embeds, model="here", precision="float32")


def test_it_ranks_as_the_exact_score_does():
    tracks, queries = embeddings(), embeddings(5, seed=1)
    index, exact = build(tracks), segment_similarity(queries, tracks)
    for query, scores in zip(queries, exact, strict=True):
        best = scores.topk(10)
        matches = index.search(query, k=10)
        assert [match.item["title"] for match in matches] == [f"track {place}" for place in best.indices]
        torch.testing.assert_close(torch.tensor([match.score for match in matches]), best.values)


def test_the_score_is_the_mean_of_the_similarity_s_diagonal():
    tracks, (query,) = embeddings(), embeddings(1, seed=1)
    for match in build(tracks).search(query, k=3):
        similarity = torch.tensor(match.similarity)
        torch.testing.assert_close(similarity, query @ tracks[int(match.title.split()[1])].T)
        assert similarity.diagonal().mean().item() == pytest.approx(match.score)


def test_a_file_is_found_once_by_its_best_part():
    embeds = embeddings(60)
    items = [
        {"title": f"track {number // 3}", "path": f"{number // 3}.mp3", "start": 10.0 * (number % 3)} | {"end": 30.0}
        for number in range(60)
    ]
    index = RetrievalIndex.build(items, embeds, model="here", precision="float32")
    (query,) = embeddings(1, seed=1)
    scores = segment_similarity(query[None], embeds)[0].view(20, 3)
    matches = index.search(query, k=20)
    assert [match.score for match in matches] == pytest.approx(scores.amax(1).sort(descending=True).values.tolist())
    for match in matches:
        best = scores[int(match.item["path"].removesuffix(".mp3"))].argmax().item()
        assert match.position == f"{clock(10.0 * best)}-0:30"


def test_many_parts_of_few_files_do_not_hide_the_others():
    (query,) = embeddings(1, seed=1)
    near = nn.functional.normalize(query + 0.1 * embeddings(1500), dim=-1)  # all parts of one long file
    items = [{"path": "long.mp3", "title": "long"}] * 1500 + [
        {"path": f"{number}", "title": "short"} for number in range(9)
    ]
    index = RetrievalIndex.build(items, torch.cat([near, embeddings(9, seed=2)]), model="here")
    assert [match.title for match in index.search(query, k=10)] == ["long"] + ["short"] * 9


def test_a_filter_finds_all_there_are():
    embeds = embeddings(1000)
    items = [
        {"path": f"{number}", "genre": ["rare" if number % 100 == 0 else "usual", "music"]} for number in range(1000)
    ]
    (query,) = embeddings(1, seed=1)
    for index_type in ("flat", "ivf", "hnsw"):
        index = RetrievalIndex.build(items, embeds, model="here", index_type=index_type)
        rare = index.search(query, k=20, where={"genre": "rare"})
        assert sorted(int(match.item["path"]) for match in rare) == list(range(0, 1000, 100))
        assert len(index.search(query, k=20, where={"genre": ["rare", "usual"]})) == 20
        assert index.search(query, where={"genre": "none"}) == []


@pytest.mark.parametrize("wanted", [120, 120.0, "120", "120.0"])
def test_a_whole_number_is_the_same_with_and_without_its_point(wanted):
    items = [{"path": str(bpm), "bpm": bpm} for bpm in (120, 120.0, "120", "120.0", 120.5, "0120", 12)]
    index = RetrievalIndex.build(items, embeddings(len(items)), model="here")
    found = index.search(embeddings(1, seed=1)[0], where={"bpm": wanted})
    assert [match.item["bpm"] in (120, "120", "120.0") for match in found] == [True] * 2  # of equal paths the best


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    index, query = build(embeddings()), embeddings(1, seed=2)[0]
    before = index.search(query)
    index.save(tmp_path / "index")
    assert index.search(query) == before
    loaded = RetrievalIndex.load(tmp_path / "index")
    assert loaded.search(query) == before
    assert (loaded.model, len(loaded)) == ("here", 50)


def test_saving_over_an_index_replaces_it(tmp_path):
    build(embeddings(50)).save(tmp_path)
    build(embeddings(3)).save(tmp_path)
    assert len(RetrievalIndex.load(tmp_path)) == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_model_that_moves_along_is_found(tmp_path):
    (tmp_path / "demo" / "model").mkdir(parents=True)
    items, embeds = [{"title": "a"}], embeddings(1)
    RetrievalIndex.build(items, embeds, model=str(tmp_path / "demo" / "model")).save(tmp_path / "demo" / "index")
    (tmp_path / "demo").rename(tmp_path / "moved")
    assert Path(RetrievalIndex.load(tmp_path / "moved" / "index").model).samefile(tmp_path / "moved" / "model")
    (tmp_path / "moved" / "index").rename(tmp_path / "index")
    assert RetrievalIndex.load(tmp_path / "index").model == str(tmp_path / "demo" / "model")


@pytest.mark.parametrize("name", ["pooled-*.faiss", "part-*.arrow"])
def test_a_damaged_index_is_refused(tmp_path, name):
    build(embeddings()).save(tmp_path / "index")
    (path,) = (tmp_path / "index").glob(name)
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(DamagedIndexError, match="damaged"):
        RetrievalIndex.load(tmp_path / "index")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 3, "files": {}}', '{"format": 3, "what": 1}'])
def test_a_damaged_description_is_refused(tmp_path, text):
    build(embeddings()).save(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(DamagedIndexError, match=r"build it again"):
        RetrievalIndex.load(tmp_path)


def test_no_index_says_so(tmp_path):
    with pytest.raises(DamagedIndexError, match="holds no index"):
        RetrievalIndex.load(tmp_path)


def test_it_never_returns_more_than_it_has():
    assert len(build(embeddings(3)).search(embeddings(1)[0], k=10)) == 3


def test_many_queries_at_once_are_answered_as_each_alone():
    index, queries = build(embeddings(300)), embeddings(7, seed=1)
    assert index.search_many(queries, k=5) == [index.search(query, k=5) for query in queries]


@pytest.mark.parametrize(("precision", "error"), [("float16", 1e-3), ("int8", 1e-2)])
def test_fewer_bits_move_scores_a_little(precision, error, tmp_path):
    tracks, queries = embeddings(200), embeddings(5, seed=1)
    items = [{"path": f"{number}"} for number in range(200)]
    RetrievalIndex.build(items, tracks, model="here", precision=precision).save(tmp_path)
    index = RetrievalIndex.load(tmp_path)
    assert index.facts.precision == precision
    for query, scores in zip(queries, segment_similarity(queries, tracks), strict=True):
        for match in index.search(query, k=200):
            assert match.score == pytest.approx(scores[int(match.item["path"])].item(), abs=error)


def test_more_candidates_find_what_segments_alone_can_tell():
    tracks = embeddings(2000)
    index, (query,) = build(tracks), embeddings(1, seed=1)
    best = segment_similarity(query[None], tracks)[0].topk(10).indices.tolist()
    few, all_of_them = ({m.title for m in index.search(query, candidates=count)} for count in (10, 2000))
    assert all_of_them == {f"track {place}" for place in best}
    assert few != all_of_them


def test_a_reader_beside_a_writer_sees_the_old_state_or_the_new(tmp_path, monkeypatch):
    build(embeddings(50)).save(tmp_path)
    read_facts = index_module.read_facts

    def read_and_be_overtaken(folder):
        monkeypatch.setattr(index_module, "read_facts", read_facts)
        old = read_facts(folder)
        build(embeddings(60)).save(tmp_path)
        return old

    monkeypatch.setattr(index_module, "read_facts", read_and_be_overtaken)
    assert len(RetrievalIndex.load(tmp_path)) == 60


def test_bad_input_is_refused():
    index = build(embeddings(3))
    with pytest.raises(ValueError, match=r"\(4, 16\).*\(8, 16\)"):
        index.search(torch.zeros(8, 16))
    with pytest.raises(ValueError, match="NaN or infinite"):
        index.search(torch.full((4, 16), torch.nan))
    with pytest.raises(ValueError, match="holds NaN"):
        build(torch.full((3, 4, 16), torch.nan))
    with pytest.raises(ValueError, match=r"expected embeddings \(items, K, size\), got \(3, 16\)"):
        RetrievalIndex.build([{}] * 3, torch.zeros(3, 16), model="here")
    with pytest.raises(ValueError, match="2 items and 3 embeddings"):
        RetrievalIndex.build([{"title": "a"}, {"title": "b"}], embeddings(3), model="here")


def test_an_update_adds_replaces_removes_and_relabels(tmp_path):
    items = [{"path": f"{number}", "title": f"{number}"} for number in range(10)]
    update_index(tmp_path, FACTS, [make_rows(items, embeddings(10), ["old"] * 10)])
    changed = embeddings(2, seed=3)
    new = make_rows([{"path": "3", "title": "3"}, {"path": "10", "title": "10"}], changed, ["new"] * 2)
    update_index(tmp_path, FACTS, [new], drop={"3", "7"}, metadata={"5": '{"title": "five"}'})
    known = known_files(tmp_path, FACTS)
    assert set(known) == {"0", "1", "2", "3", "4", "5", "6", "8", "9", "10"}
    assert (known["3"][0], known["4"][0], known["5"]) == ("new", "old", ("old", '{"title": "five"}'))
    index = RetrievalIndex.load(tmp_path)
    assert index.search(changed[0], k=1)[0].score == pytest.approx(1, abs=1e-3)
    assert index.search(embeddings(10)[5], k=1)[0].title == "five"
    assert len(index) == 10


def test_what_another_model_made_is_not_mixed_in(tmp_path):
    facts = replace(FACTS, identity="a" * 32)
    update_index(tmp_path, facts, [make_rows([{"path": "a"}], embeddings(1), ["x"])])
    assert set(known_files(tmp_path, replace(facts, model="there"))) == {"a"}  # moved, but the same
    with pytest.raises(ModelMismatchError, match=r"here \(aaaaaaaa\), not by there \(bbbbbbbb\)"):
        known_files(tmp_path, replace(facts, model="there", identity="b" * 32))
    with pytest.raises(ModelMismatchError, match=r"section_seconds None, not 10"):
        known_files(tmp_path, replace(facts, section_seconds=10.0))


KILL = """
import json, os, signal, sys
from pathlib import Path
import pandas  # which pyarrow would import in the midst of an update
import torch
from cmmixer_hf.search import faiss_store
from cmmixer_hf.search.index import IndexFacts
from cmmixer_hf.search.index import RetrievalIndex
from cmmixer_hf.search.index import update_index
from cmmixer_hf.search.index_rows import make_rows

torch.set_num_threads(1)
faiss_store.ROWS_PER_PART = 2  # several parts, some of which stay
folder, facts = Path(sys.argv[1]), IndexFacts("here", 2, 4)

def rows(names, seed):
    embeds = torch.randn(len(names), 2, 4, generator=torch.Generator().manual_seed(seed))
    embeds = torch.nn.functional.normalize(embeds, dim=-1)
    return make_rows([{"path": name, "title": str(seed)} for name in names], embeds, [str(seed)] * len(names))

def update(limit):
    "Replace b, take out e, add f; killed at the `limit`th thing that is done to a file."
    count = 0
    def watch(event, arguments):
        nonlocal count
        if event.split(".")[0] in ("open", "os", "shutil", "tempfile"):
            count += 1
            if count == limit:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    update_index(folder, facts, [rows("bf", 1)], drop={"b", "e"})

def tell():
    "What a reader finds; then back to the beginning."
    index = RetrievalIndex.load(folder)
    files = sorted((path, stamp) for path, (stamp, _) in index.store.files().items())
    print(json.dumps([limit, killed, len(index), files]), flush=True)
    update_index(folder, facts, [rows("abcde", 0)], drop=set("abcdef"))

def in_a_child(work):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL

killed = False
in_a_child(lambda: update_index(folder, facts, [rows("abcde", 0)]))
for limit in range(1, 10_000):
    killed = in_a_child(lambda: update(limit))
    in_a_child(tell)
    if not killed:
        break
"""


def test_killed_at_any_moment_it_is_the_old_or_the_new_one(tmp_path):
    answer = subprocess.run([sys.executable, "-c", KILL, tmp_path], capture_output=True, text=True, check=True)
    states = [json.loads(line) for line in answer.stdout.splitlines()]
    old = [[name, "0"] for name in "abcde"]
    new = [["a", "0"], ["b", "1"], ["c", "0"], ["d", "0"], ["f", "1"]]
    found = [files for _, _, _, files in states]
    assert all(files in (old, new) for files in found), answer.stderr
    assert all(length == 5 for _, _, length, _ in states)
    turn = found.index(new)
    assert found == [old] * turn + [new] * (len(found) - turn)  # one step between the two
    assert [limit for limit, *_ in states] == list(range(1, len(states) + 1))
    assert len(states) > 20
    assert [killed for _, killed, *_ in states] == [True] * (len(states) - 1) + [False]


def test_adding_moves_towards_and_subtracting_away():
    a, b, c = embeddings(3)
    similarity = lambda query, other: segment_similarity(query[None], other[None]).item()  # noqa: E731
    assert similarity(combine_queries(a, plus=[b]), b) > similarity(a, b)
    assert similarity(combine_queries(a, minus=[c]), c) < similarity(a, c)
    torch.testing.assert_close(combine_queries(a).norm(dim=-1), torch.ones(4))
