"""Scores that mean something: what any two clips have in common is no match, and noise does not stand out."""

import json

import numpy as np
import pytest
import torch
from conftest import write_noise_clip
from torch import nn

from cmmixer_hf.cli import main
from cmmixer_hf.search import RetrievalIndex, Searcher, draw_match, open_embedder
from cmmixer_hf.search.background import BACKGROUND, Background, background_queries
from cmmixer_hf.search.index import STANDS_OUT, Match
from cmmixer_hf.search.queries import Answer, QueryPart

pytest.importorskip("faiss", reason="the index needs faiss-cpu")
K, SIZE, ITEMS = 4, 64, 40


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An index whose items, matches and noise share a level and a place in the clip, and queries of both kinds."""
    generator = torch.Generator().manual_seed(0)
    places = 2 * torch.randn(K, SIZE, generator=generator)  # of any clip's segments

    def embed(meaning: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(places + meaning, dim=-1)

    meanings = 0.6 * torch.randn(ITEMS, K, SIZE, generator=generator)
    noise = 0.1 * torch.randn(20, K, SIZE, generator=generator)
    items = [{"path": f"/music/{number}.mp3", "title": str(number)} for number in range(ITEMS)]
    folder = tmp_path_factory.mktemp("world") / "index"
    background = {"video": embed(noise[:12])}
    RetrievalIndex.build(items, embed(meanings), model="none", background=background).save(folder)
    return RetrievalIndex.load(folder), embed(meanings + noise[12:13]), embed(noise[12:])


def test_matches_stand_out_and_noise_does_not_although_its_scores_are_high(world):
    index, queries, noise = world
    right = [index.search(query, k=1, kind="video")[0] for query in queries]
    wrong = [index.search(query, k=1, kind="video")[0] for query in noise]
    assert [match.title for match in right] == [str(number) for number in range(ITEMS)]
    assert min(match.score for match in wrong) > 0.9
    assert min(match.standing for match in right) > STANDS_OUT > max(match.standing for match in wrong)
    assert Answer(QueryPart("a"), right).stands_out
    assert not Answer(QueryPart("a"), wrong).stands_out


def test_what_is_beyond_is_the_score_centred_on_both_sides(world):
    index, queries, _ = world
    background, (match, *_) = index.background, index.search(queries[3], k=1, kind="video")
    segments = next(index.store.tables({"/music/3.mp3"}))["segment_embeds"].to_pylist()
    segments = torch.tensor(segments).view(K, SIZE)
    mean, item = background.queries["video"], background.item
    expected = queries[3] @ segments.T - mean @ segments.T - queries[3] @ item.T + mean @ item.T
    torch.testing.assert_close(torch.tensor(match.beyond), expected, rtol=0, atol=1e-5)


def test_without_a_background_nothing_is_said(world):
    index, queries, _ = world
    match = index.search(queries[0], k=1)[0]
    assert (match.standing, match.beyond, match.stands_out) == (None, (), True)
    assert index.search(queries[0], k=1, kind="audio")[0].standing is None


def test_it_is_kept_beside_the_index_and_damage_is_no_background(world, tmp_path):
    world[0].background.save(tmp_path)
    loaded = Background.load(tmp_path)
    torch.testing.assert_close(loaded.tops["video"], world[0].background.tops["video"])
    (tmp_path / BACKGROUND).write_bytes(b"nothing")
    assert Background.load(tmp_path) is None


def test_background_queries_of_a_model(retriever_folder):
    queries = background_queries(open_embedder(retriever_folder, "cpu"))
    assert {kind: tuple(asked.shape) for kind, asked in queries.items()} == {
        "video": (12, 2, 32),
        "audio": (9, 2, 32),
    }
    assert all(asked.isfinite().all() for asked in queries.values())


def test_a_library_of_few_files_has_none_and_one_of_ten_has(retriever_folder, tmp_path, capsys):
    (tmp_path / "library").mkdir()
    for number in range(9):
        write_noise_clip(tmp_path / "library" / f"{number}.mp4", number, seconds=1.0)
    arguments = ["index", str(tmp_path / "library"), str(tmp_path / "index"), "--model", str(retriever_folder)]
    assert main(arguments) == 0
    assert not (tmp_path / "index" / BACKGROUND).exists()
    clip = write_noise_clip(tmp_path / "library" / "9.mp4", 9, seconds=1.0)
    assert main(arguments) == 0
    assert Searcher(tmp_path / "index")(clip)[0].standing is not None
    capsys.readouterr()
    assert main(["search", str(clip), str(tmp_path / "index"), "-k", "1"]) == 0
    assert "beyond noise" in capsys.readouterr().out
    assert main(["search", str(clip), str(tmp_path / "index"), "-k", "1", "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["stands_out"] == (line["matches"][0]["standing"] >= STANDS_OUT)


def test_the_picture_shows_what_is_beyond():
    pytest.importorskip("matplotlib", reason="pictures need Matplotlib")
    plain = np.full((2, 2), 0.9)
    beyond = np.eye(2) * 0.4
    item = {"title": "a"}
    pictures = [
        np.asarray(draw_match(Match(item, 0.9, tuple(map(tuple, plain)), beyond=shown)))
        for shown in ((), tuple(map(tuple, beyond.tolist())))
    ]
    assert (pictures[0] != pictures[1]).any()
