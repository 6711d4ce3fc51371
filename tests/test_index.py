import pytest
import torch
from torch import nn

from cmmixer_hf.index import DamagedIndexError, RetrievalIndex, combine_queries
from cmmixer_hf.metrics import segment_similarity

pytest.importorskip("faiss", reason="the index needs faiss-cpu")


def embeddings(count: int = 50, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return nn.functional.normalize(torch.randn(count, 4, 16, generator=generator), dim=-1)


def build(embeds: torch.Tensor) -> RetrievalIndex:
    items = [{"title": f"track {number}", "path": f"{number}.mp3"} for number in range(len(embeds))]
    return RetrievalIndex.build(items, embeds, model="here")


def test_it_ranks_as_the_exact_score_does():
    tracks, queries = embeddings(), embeddings(5, seed=1)
    index, exact = build(tracks), segment_similarity(queries, tracks)
    for query, scores in zip(queries, exact, strict=True):
        best = scores.topk(10)
        matches = index.search(query, k=10)
        assert [match.item["title"] for match in matches] == [f"track {place}" for place in best.indices]
        torch.testing.assert_close(torch.tensor([match.score for match in matches]), best.values)


def test_saved_and_loaded_it_answers_the_same(tmp_path):
    index, query = build(embeddings()), embeddings(1, seed=2)[0]
    before = index.search(query)
    index.save(tmp_path / "index")
    assert index.search(query) == before
    loaded = RetrievalIndex.load(tmp_path / "index")
    assert loaded.search(query) == before
    assert (loaded.model, len(loaded)) == ("here", 50)


@pytest.mark.parametrize("name", ["pooled-*.faiss", "part-*.arrow"])
def test_a_damaged_index_is_refused(tmp_path, name):
    build(embeddings()).save(tmp_path / "index")
    (path,) = (tmp_path / "index").glob(name)
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(DamagedIndexError, match="damaged"):
        RetrievalIndex.load(tmp_path / "index")


def test_no_index_says_so(tmp_path):
    with pytest.raises(DamagedIndexError, match="holds no index"):
        RetrievalIndex.load(tmp_path)


def test_it_never_returns_more_than_it_has():
    assert len(build(embeddings(3)).search(embeddings(1)[0], k=10)) == 3


def test_bad_input_is_refused():
    index = build(embeddings(3))
    with pytest.raises(ValueError, match=r"\(4, 16\).*\(8, 16\)"):
        index.search(torch.zeros(8, 16))
    with pytest.raises(ValueError, match="2 items and 3 embeddings"):
        RetrievalIndex.build([{"title": "a"}, {"title": "b"}], embeddings(3), model="here")


def test_adding_moves_towards_and_subtracting_away():
    a, b, c = embeddings(3)
    similarity = lambda query, other: segment_similarity(query[None], other[None]).item()  # noqa: E731
    assert similarity(combine_queries(a, plus=[b]), b) > similarity(a, b)
    assert similarity(combine_queries(a, minus=[c]), c) < similarity(a, c)
    torch.testing.assert_close(combine_queries(a).norm(dim=-1), torch.ones(4))
