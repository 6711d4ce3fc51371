"""Sections of queries, words, and several queries at once, on a library of long tracks with a copy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_noise_clip

from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.media.reading import MediaError, write_clip
from cmmixer_hf.search.indexing import build_index
from cmmixer_hf.search.queries import Answer, QueryPart
from cmmixer_hf.search.searcher import Searcher
from cmmixer_hf.settings import IndexSettings

pytest.importorskip("faiss", reason="the index needs faiss-cpu")


def write_track(path: Path, seed: int, seconds: float) -> Path:
    """Tones that change every second, so that every section sounds different."""
    rng, rate = np.random.default_rng(seed), 16000
    pitches = rng.uniform(100, 4000, (round(seconds), 3)).repeat(rate, 0)
    phases = 2 * np.pi * np.cumsum(pitches, 0) / rate
    write_clip(path, None, (0.1 * np.sin(phases).sum(1)).astype(np.float32), sampling_rate=rate)
    return path


@pytest.fixture(scope="module")
def tracks(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("tracks")
    paths = [write_track(folder / f"track{number}.m4a", number, 20.0) for number in range(5)]
    shutil.copy(paths[1], folder / "zz_copy_of_1.m4a")
    return paths


@pytest.fixture(scope="module")
def index(tracks, retriever_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("queries") / "index"
    build_index(IndexSettings(str(tracks[0].parent), str(folder), str(retriever_folder), section_seconds=6.0))
    return folder


@pytest.fixture(scope="module")
def searcher(index) -> Searcher:
    return Searcher(index)


def titles(matches) -> list[str]:
    """A copy's title is as good as its file's."""
    return [match.title.replace("zz_copy_of_", "track") for match in matches]


def test_a_track_searched_by_itself_finds_itself_first(searcher, tracks):
    for track in tracks:
        best, second, *_ = searcher(track)
        assert best.score == pytest.approx(1, abs=1e-3)
        assert track.stem in (best.title, *(other.title for other in best.also))
        assert second.score < best.score


def test_sections_and_copies_fold_under_one_match(searcher, tracks):
    matches = searcher(tracks[1])
    assert len(matches) == 5
    folded = {other.item["path"] for other in matches[0].also} | {matches[0].item["path"]}
    assert folded == {str(tracks[1]), str(tracks[1].parent / "zz_copy_of_1.m4a")}
    assert len(matches[0].also) == 2 * len(searcher.embed(tracks[1])) - 1


def test_a_long_query_is_answered_by_its_best_part_or_by_each(searcher, tracks):
    sections = searcher.embed(tracks[2])
    assert len(sections) == 6
    answers = searcher.search_many([tracks[2]], long_query="parts")
    assert [answer.place[0] for answer in answers] == pytest.approx([0.0, 2.8, 5.6, 8.4, 11.2, 14.0], abs=0.1)
    for answer, section in zip(answers, sections, strict=True):
        assert titles(answer.matches) == titles(searcher.index.search(section))
        assert answer.matches[0].title == "track2"
        assert answer.matches[0].position in answer.title
    (best,) = searcher.search_many([tracks[2]])
    scores = {title: [] for title in titles(best.matches)}
    for answer in answers:
        for title, match in zip(titles(answer.matches), answer.matches, strict=True):
            scores[title].append(match.score)
    expected = [max(scores[title]) for title in titles(best.matches)]
    assert [match.score for match in best.matches] == pytest.approx(expected, abs=1e-5)
    assert best.matches[0].asked in [answer.place for answer in answers]


def test_many_queries_are_answered_as_one_by_one_and_a_bad_one_has_its_error(searcher, tracks, clip_files, tmp_path):
    missing = tmp_path / "none.mp3"
    queries = [tracks[0], missing, QueryPart(str(clip_files[0]), "audio"), QueryPart(text="calm piano"), clip_files[0]]
    answers = searcher.search_many(queries, k=3)
    assert [type(answer.error) for answer in answers] == [type(None), MediaError, type(None), SourceError, type(None)]
    assert str(missing) in str(answers[1].error)
    assert "knows no words" in str(answers[3].error)
    for query, answer in zip(queries, answers, strict=True):
        assert answer.error or titles(answer.matches) == titles(searcher(query, k=3))
    with pytest.raises(MediaError, match=r"none\.mp3"):
        searcher.search_many([tracks[0]], plus=[missing])


def test_the_command_answers_the_others_and_says_what_is_wrong_with_one(index, tracks, tmp_path, capsys):
    assert main(["search", str(tracks[0]), str(tmp_path / "none.mp3"), str(tracks[3]), str(index), "--json"]) == 1
    output, error = capsys.readouterr()
    lines = [json.loads(line) for line in output.splitlines()]
    assert [Path(line["query"]).stem for line in lines] == ["track0", "track3"]
    assert error.count("\n") == 1
    assert "none.mp3" in error


def test_words_without_a_model_that_knows_them_are_one_line(index, tracks, capsys):
    assert main(["search", "--text", "calm piano", str(index)]) == 1
    assert "knows no words, only sound and pictures" in capsys.readouterr().err
    assert main(["search", str(tracks[0]), str(index), "--minus", "text:sad"]) == 1
    assert "knows no words" in capsys.readouterr().err
    assert main(["search", str(index)]) == 1
    assert 'say what is looked for with --text "WORDS"' in capsys.readouterr().err
    assert main(["search", str(tracks[0]), str(index), "--minus", "text: "]) == 1
    assert "holds no words" in capsys.readouterr().err


def test_the_table_names_what_folds_and_which_part_asked(index, tracks, capsys):
    assert main(["search", str(tracks[1]), str(index), "-k", "1"]) == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert "zz_copy_of_1" in line
    assert "(also " in line
    assert "more)" in line
    assert "(asked by " in line
    assert main(["search", str(tracks[1]), str(index), "--long_query", "parts"]) == 0
    assert f"{tracks[1]} 0:00-0:06" in capsys.readouterr().out


def test_a_silent_query_is_refused(searcher, tmp_path):
    write_clip(tmp_path / "silent.m4a", None, np.zeros(16000, np.float32), sampling_rate=16000)
    with pytest.raises(MediaError, match="silent throughout"):
        searcher(tmp_path / "silent.m4a")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("text:less sad", QueryPart(text="less sad")),
        ("text:less sad:0.5", QueryPart(text="less sad", weight=0.5)),
        ("text:120", QueryPart(text="120")),
        ("a.mp4:audio:2", QueryPart("a.mp4", "audio", 2.0)),
    ],
)
def test_words_in_parts_of_a_query(text, part):
    assert QueryPart.parse(text) == part


def test_a_part_is_a_file_or_words():
    with pytest.raises(ValueError, match="is a file or words, got path='' and text=None"):
        QueryPart()
    with pytest.raises(ValueError, match="is a file or words"):
        QueryPart("a.mp4", text="calm")
    assert str(QueryPart(text="calm")) == "text:calm"
    assert Answer(QueryPart("a.mp4", "audio")).title == "a.mp4:audio"


def test_nan_is_refused_where_it_is_made_built_and_asked(searcher, tracks, index, retriever_folder, tmp_path, capsys):
    query = searcher.embed(tracks[0])[0]
    query[0, 0] = float("nan")
    with pytest.raises(ValueError, match="the query holds NaN or infinite values"):
        searcher.index.search(query)
    embeds = torch.ones(2, 2, 32)
    embeds[1, 0, 0] = float("inf")
    with pytest.raises(SourceError, match="the model gives b an embedding that holds NaN"):
        type(searcher.index).build([{"title": "a"}, {"title": "b"}], embeds, model="demo")
    from cmmixer_hf import CMMixerForRetrieval

    shutil.copytree(retriever_folder, tmp_path / "broken")
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    torch.nn.init.constant_(list(model.parameters())[-1], float("nan"))
    model.save_pretrained(tmp_path / "broken")
    sound = write_noise_clip(tmp_path / "library.mp4", 0)
    assert main(["index", str(sound.parent), str(tmp_path / "index"), "--model", str(tmp_path / "broken")]) == 1
    output, error = capsys.readouterr()
    assert "library.mp4: the model gives it an embedding with NaN" in output
    assert "no file is usable" in error
