from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("gradio", reason="the page needs gradio")
pytest.importorskip("faiss", reason="the index needs faiss-cpu")

from cmmixer_hf.page.finder import Finder, Question, UsersMistakeError
from cmmixer_hf.page.layout import MUSIC, render_matches
from cmmixer_hf.search.indexing import IndexSettings, build_index


@pytest.fixture(scope="module")
def index(tmp_path_factory, clip_files, retriever_folder) -> Path:
    """The sound of six clips."""
    folder = tmp_path_factory.mktemp("finder") / "index"
    build_index(IndexSettings(str(clip_files[0].parent), str(folder), str(retriever_folder), measure="tags"))
    return folder


@pytest.fixture
def finder(index) -> Finder:
    return Finder(str(index), "audio")


def test_a_file_asks_by_the_side_that_is_not_indexed(finder, clip_files):
    assert finder.query(str(clip_files[0])).modality == "video"
    matches = finder.find(Question(str(clip_files[0]), count=3))
    assert len(matches) == 3
    described = finder.describe(matches[0])
    assert finder.files[described["id"]] == matches[0].item["path"]
    assert not any(str(clip_files[0].parent) in str(value) for value in described.values())


def test_filters_stand_between_semicolons(finder, clip_files):
    found = finder.find(Question(str(clip_files[0]), filters="title=clip1; title=clip2;\nduration<100", count=5))
    assert {match.title for match in found} == {"clip1", "clip2"}
    with pytest.raises(UsersMistakeError, match="no item has mood"):
        finder.find(Question(str(clip_files[0]), filters="mood=calm"))


def test_words_ask_models_that_know_words(finder, clip_files, monkeypatch):
    with pytest.raises(UsersMistakeError, match="this model knows no words: ask with a file"):
        finder.find(Question(words="calm piano"))
    with pytest.raises(UsersMistakeError, match=r"give a video or a sound file first$"):
        finder.find(Question(words=" "))
    embedder = finder.searcher.embedder

    def embed_text(texts, target):
        generator = torch.Generator().manual_seed(sum(map(ord, "".join(texts))))
        vectors = torch.randn(len(texts), embedder.num_segments, embedder.size, generator=generator)
        return nn.functional.normalize(vectors, dim=-1)

    monkeypatch.setattr(embedder, "modalities", ("video", "audio", "text"), raising=False)
    monkeypatch.setattr(embedder, "embed_text", embed_text)
    assert finder.knows_words
    by_words = finder.find(Question(words="calm piano"))
    by_file = finder.find(Question(str(clip_files[0])))
    by_both = finder.find(Question(str(clip_files[0]), words="calm piano"))
    assert len({tuple(round(match.score, 4) for match in found) for found in (by_words, by_file, by_both)}) == 3
    with pytest.raises(UsersMistakeError, match="or words"):
        finder.find(Question())


def test_of_what_is_gone_the_page_says_so(finder, clip_files):
    matches = finder.find(Question(str(clip_files[0]), count=2))
    name = finder.describe(matches[1])["id"]
    finder.files[name] += ".gone"
    page = render_matches(MUSIC, finder, matches, together=True)
    assert page.count("<audio") == page.count("Play under the clip") == 1
    assert "#t=0,3" in page
    assert "not in its place any more" in page
    assert "Nothing in the index fits" in render_matches(MUSIC, finder, [], together=True)


def test_what_cannot_be_laid_under_a_clip_is_a_sentence(finder, clip_files, tmp_path):
    with pytest.raises(UsersMistakeError, match="there is no such track"):
        finder.fit(str(clip_files[0]), "../../etc/passwd", 0.0)
    name = next(iter(finder.files))
    with pytest.raises(UsersMistakeError, match="has no sound after 900 s"):
        finder.fit(str(clip_files[0]), name, 900.0)


def test_it_says_what_it_is(finder):
    told = finder.about()
    assert told["items"] == told["files"] == 6
    assert told["asks"] == ["video", "audio"]
    assert set(told["filters"]) >= {"title", "duration"}
