import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_noise_clip

from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.cli import main
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.files import read_csv
from cmmixer_hf.media.reading import MediaError
from cmmixer_hf.models.similarity import combine_queries
from cmmixer_hf.search.embedding import Cutting, embed_file
from cmmixer_hf.search.index import DamagedIndexError, ModelMismatchError
from cmmixer_hf.search.indexing import IndexSettings, build_index
from cmmixer_hf.search.queries import QueryPart
from cmmixer_hf.search.searcher import Searcher

pytest.importorskip("faiss", reason="the index needs faiss-cpu")


@pytest.fixture(scope="module")
def index(tmp_path_factory, clip_files, retriever_folder) -> Path:
    """Pictures of six clips, three of them of one genre."""
    folder = tmp_path_factory.mktemp("search")
    lines = [f"{path},{'calm' if number < 3 else 'loud'}" for number, path in enumerate(clip_files)]
    (folder / "list.csv").write_text("\n".join(["path,mood", *lines]))
    build_index(IndexSettings(str(folder / "list.csv"), str(folder / "index"), str(retriever_folder), modality="video"))
    return folder / "index"


@pytest.fixture(scope="module")
def searcher(index) -> Searcher:
    return Searcher(index)


def test_three_lines_of_python(index, clip_files):
    searcher = Searcher(index)
    matches = searcher(clip_files[2], k=3)
    assert matches[0].title == "clip2"
    assert matches[0].score == pytest.approx(1, abs=1e-3)
    assert len(matches) == 3
    assert matches[0].item["path"] == str(clip_files[2])
    assert matches[0].position == "0:00-0:03"


def test_a_bent_query_is_the_combination_of_its_files(searcher, clip_files):
    a, b, c = (embed_file(path, searcher.embedder, Cutting("video")).embeds[0] for path in clip_files[:3])
    sound = embed_file(clip_files[3], searcher.embedder, Cutting("audio")).embeds[0]
    expected = combine_queries(a, plus=[b, 0.5 * sound], minus=[2 * c])
    parts = {
        "plus": [clip_files[1], QueryPart(clip_files[3], "audio", 0.5)],
        "minus": [QueryPart(clip_files[2], weight=2)],
    }
    torch.testing.assert_close(searcher.embed(clip_files[0], **parts)[0], expected)
    found, wanted = searcher(clip_files[0], **parts), searcher.index.search(expected)
    assert [match.title for match in found] == [match.title for match in wanted]
    assert [match.score for match in found] == pytest.approx([match.score for match in wanted], abs=1e-6)


def test_adding_and_subtracting_move_results(searcher, clip_files):
    def score_of_clip1(**parts) -> float:
        return next(match.score for match in searcher(clip_files[0], **parts) if match.title == "clip1")

    more, less = score_of_clip1(plus=[clip_files[1]]), score_of_clip1(minus=[QueryPart(str(clip_files[1]), weight=0.5)])
    assert less < score_of_clip1() < more


def test_one_file_need_not_be_a_list(searcher, clip_files):
    a, b = map(str, clip_files[:2])
    assert torch.equal(
        searcher.embed(a, plus=b, minus=clip_files[2]), searcher.embed(a, plus=[b], minus=[clip_files[2]])
    )
    (answer,) = searcher.search_many(a, k=1)
    assert answer.query == QueryPart(a)
    for wrong in (None, b"bytes", [a]):
        with pytest.raises(
            TypeError, match=f"a query is the path of a file or a QueryPart, got {type(wrong).__name__}"
        ):
            searcher(wrong)


def test_filters(searcher, clip_files):
    calm = {match.title for match in searcher(clip_files[5], where={"mood": "calm"})}
    assert calm == {"clip0", "clip1", "clip2"}
    assert len(searcher(clip_files[5], where={"mood": ["calm", "loud"]})) == 6


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a.mp4", QueryPart("a.mp4")),
        ("a.mp4:audio", QueryPart("a.mp4", "audio")),
        ("a.mp4:0.5", QueryPart("a.mp4", None, 0.5)),
        ("a.mp4:video:2", QueryPart("a.mp4", "video", 2.0)),
        ("take:3", QueryPart("take", None, 3.0)),
        ("C:\\clips\\a.mp4", QueryPart("C:\\clips\\a.mp4")),
        ("a.mp4:smell", QueryPart("a.mp4:smell")),
        ("audio", QueryPart("audio")),
        (":audio", QueryPart(":audio")),
    ],
)
def test_parts_of_a_query_are_read(text, part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert QueryPart.parse(text) == part


def test_a_file_that_is_called_so_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("take:3").touch()
    assert QueryPart.parse("take:3") == QueryPart("take:3")
    assert QueryPart.parse("take:3:audio") == QueryPart("take:3", "audio")


def test_another_model_is_refused_by_both_names(index, tiny_config, extractor, tmp_path):
    CMMixerForRetrieval(tiny_config).save_pretrained(tmp_path)
    CMMixerProcessor(extractor).save_pretrained(tmp_path)
    with pytest.raises(ModelMismatchError) as caught:
        Searcher(index, model=str(tmp_path))
    assert str(tmp_path) in str(caught.value)
    assert "retriever" in str(caught.value)


def test_a_model_that_has_moved_is_asked_for(index, retriever_folder, clip_files, tmp_path):
    moved = tmp_path / "index"
    shutil.copytree(index, moved)
    note = json.loads((moved / "index.json").read_text()) | {"model": "/gone/away", "model_from_here": "nowhere"}
    (moved / "index.json").write_text(json.dumps(note))
    with pytest.raises(SourceError, match=r"^[^\n]*gone/away[^\n]*where it is with --model$"):
        Searcher(moved)
    assert Searcher(moved, model=str(retriever_folder))(clip_files[1], k=1)[0].title == "clip1"


def test_what_is_missing_is_named(index, searcher, tmp_path):
    with pytest.raises(DamagedIndexError, match="holds no index"):
        Searcher(tmp_path)
    with pytest.raises(MediaError, match=r"none\.mp4"):
        searcher(tmp_path / "none.mp4")


def test_the_table_of_several_queries(index, clip_files, capsys):
    first, second = (str(path) for path in clip_files[:2])
    assert main(["search", first, f"{second}:video", str(index), "-k", "2", "--where", "mood=calm"]) == 0
    blocks = capsys.readouterr().out.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [first, f"{second}:video"]
    for name, path, block in zip(("clip0", "clip1"), (first, second), blocks, strict=True):
        head, best, other = block.splitlines()[1:]
        assert head.split() == ["score", "position", "title", "path"]
        assert best.split() == ["1", "1.000", "0:00-0:03", name, path, "<-", "its", "own"]
        assert other.split()[0] == "2"
    assert main(["search", first, str(index), "--where", "mood=angry"]) == 0
    assert "nothing in the index fits" in capsys.readouterr().out
    assert main(["search", first, str(index), "--where", "title>0", "--where", f"path={second}"]) == 0
    assert "nothing in the index fits" in capsys.readouterr().out
    assert main(["search", first, str(index), "--where", f"path={second}"]) == 0
    assert len(capsys.readouterr().out.strip().splitlines()) == 3


def test_what_was_found_is_written_as_table_and_playlist(index, clip_files, tmp_path, capsys):
    first, second = map(str, clip_files[:2])
    files = ["--csv", str(tmp_path / "found.csv"), "--m3u", str(tmp_path / "found.m3u")]
    assert main(["search", first, second, str(index), "-k", "2", *files]) == 0
    head, *rows = read_csv(tmp_path / "found.csv")
    assert [row[:2] for row in rows] == [[first, "1"], [first, "2"], [second, "1"], [second, "2"]]
    assert {"mood", "duration", "width"} <= set(head)
    assert (tmp_path / "found.m3u").read_text().splitlines()[4] == first


def test_json_is_a_line_a_query(index, clip_files, capsys):
    queries = [str(path) for path in clip_files[:2]]
    bend = ["--plus", f"{clip_files[3]}:audio:0.5", "--minus", str(clip_files[4])]
    assert main(["search", *queries, str(index), "--json", "--k", "1", *bend]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["query"] for line in lines] == queries
    (match,) = lines[0]["matches"]
    assert match.keys() >= {"title", "mood", "path", "start", "end", "score", "own"}


def test_a_picture_of_the_best_match(index, clip_files, tmp_path, capsys):
    pillow = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
    pytest.importorskip("matplotlib", reason="pictures need Matplotlib")
    path = tmp_path / "match.png"
    assert main(["search", str(clip_files[0]), str(index), "--picture", str(path)]) == 0
    assert np.asarray(pillow.open(path)).shape[2] == 3
    assert main(["search", *map(str, clip_files[:2]), str(index), "--picture", str(path)]) == 1
    assert "one query" in capsys.readouterr().err
    assert main(["search", str(clip_files[0]), str(index), "--picture", str(tmp_path / "match.svg")]) == 1
    assert "name it match.png" in (printed := capsys.readouterr()).err
    assert not printed.out  # it is said before the search


def test_slips_are_one_line(index, clip_files, tmp_path, capsys):
    sound_only = write_noise_clip(tmp_path / "noise.mp4", 0)
    for arguments, message in (
        ([str(sound_only), str(index), "--where", "mood"], "a filter is KEY=VALUE"),
        (
            [str(sound_only), str(index), "--where", "tempo>90"],
            "no item has tempo: filter by duration, end, height, mood, path, start, title, width",
        ),
        ([str(sound_only), str(index), "--minus", str(sound_only)], "leaves nothing of the query"),
        ([f"{sound_only}:0", str(index)], "leaves nothing of the query"),
        ([str(sound_only), str(index), "-k", "0"], "-k is how many items to show, at least 1, got 0"),
        (["none.mp4", str(index)], "none.mp4"),
        ([str(sound_only), str(index), "--plus", "none.wav"], "none.wav"),
    ):
        assert main(["search", *arguments]) == 1
        error = capsys.readouterr().err.strip()
        assert message in error
        assert error.startswith("cmmixer: ")
        assert len(error.splitlines()) == 1
