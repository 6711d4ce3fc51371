import errno
from pathlib import Path

import pytest
from foreign_models import make_clap

pytest.importorskip("gradio", reason="the page needs gradio")
pytest.importorskip("faiss", reason="the index needs faiss-cpu")

from cmmixer_hf.page.finder import Finder, Question, UsersMistakeError
from cmmixer_hf.page.layout import MUSIC, build_page, render_matches, search_page
from cmmixer_hf.search.embedding import embed_texts
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


@pytest.fixture(scope="module")
def worded(tmp_path_factory, clip_files) -> Finder:
    """The sound of six clips by a small CLAP, which knows words."""
    home = tmp_path_factory.mktemp("worded")
    (home / "clap").mkdir()
    model = str(make_clap(home / "clap"))
    build_index(IndexSettings(str(clip_files[0].parent), str(home / "index"), model, measure="tags"))
    return Finder(str(home / "index"), "audio")


def test_models_that_know_no_words_say_so(finder):
    assert not finder.knows_words
    with pytest.raises(UsersMistakeError, match="this model knows no words: ask with a file"):
        finder.find(Question(words="calm piano"))
    with pytest.raises(UsersMistakeError, match=r"give a video or a sound file first$"):
        finder.find(Question(words=" "))


def test_words_ask_alone_and_beside_a_file(worded, clip_files):
    assert worded.knows_words
    file, words = str(clip_files[0]), "calm piano for a sunset"
    both = Question(file, words), Question(file, words, weight=2.0)
    asked = (Question(words=words), Question(words="less sad"), Question(file), *both)
    found = [worded.find(question) for question in asked]
    assert len({tuple(round(match.score, 4) for match in matches) for matches in found}) == len(asked)
    (vectors,) = embed_texts([words], worded.searcher.embedder, "audio")
    assert found[0] == worded.searcher.index.search(vectors, k=5, kind="text")
    assert worded.query(file).modality == "audio"  # this model sees nothing
    shown, seen, why = search_page(MUSIC, worded, *vars(Question(file, words)).values())
    assert "cmm-hit" in shown
    assert seen is None  # it takes no frames or spectrograms of ours
    assert why is not None
    with pytest.raises(UsersMistakeError, match="or words"):
        worded.find(Question())


def test_a_page_of_a_model_that_knows_words_has_a_place_for_them(worded, finder):
    for one in (worded, finder):
        page = build_page(one, None).get_config_file()
        (box,) = (part["props"] for part in page["components"] if part["props"].get("elem_id") == "music-words")
        assert box["visible"] == one.knows_words
        names = {function["api_name"] for function in page["dependencies"]}
        assert ("find_music_by_words" in names) == one.knows_words


def test_of_what_is_gone_the_page_says_so(finder, clip_files):
    matches = finder.find(Question(str(clip_files[0]), count=2))
    name = finder.describe(matches[1])["id"]
    finder.files[name] += ".gone"
    page = render_matches(MUSIC, finder, matches, together=True)
    assert page.count("<audio") == page.count("Play under the clip") == 1
    assert "#t=0,3" in page
    assert "not in its place any more" in page
    assert "Nothing in the index fits" in render_matches(MUSIC, finder, [], together=True)


def test_what_cannot_be_laid_under_a_clip_is_a_sentence(finder, clip_files, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/somebody/secret.mp4")

    with pytest.raises(UsersMistakeError, match="there is no such track"):
        finder.fit(str(clip_files[0]), "../../etc/passwd", 0.0)
    name = next(iter(finder.files))
    with pytest.raises(UsersMistakeError, match="has no sound after 900 s"):
        finder.fit(str(clip_files[0]), name, 900.0)
    monkeypatch.setattr("cmmixer_hf.page.finder.lay_under", full)
    with pytest.raises(UsersMistakeError, match=r"cannot be written here: No space left on device$"):
        finder.fit(str(clip_files[0]), name, 0.0)


def test_it_says_what_it_is(finder):
    told = finder.about()
    assert told["items"] == told["files"] == 6
    assert told["asks"] == ["video", "audio"]
    assert set(told["filters"]) >= {"title", "duration"}
