import csv
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import write_noise_clip
from filelock import FileLock

from cmmixer_hf import CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.media.reading import MediaError
from cmmixer_hf.search import indexing
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedding import Cutting, embed_file
from cmmixer_hf.search.index import DamagedIndexError, ModelMismatchError, RetrievalIndex
from cmmixer_hf.search.indexing import IndexSettings, build_index

pytest.importorskip("faiss", reason="the index needs faiss-cpu")


@pytest.fixture
def library(tmp_path, clip_files) -> Path:
    """Four short clips, one of ten seconds, and a file that is none."""
    folder = tmp_path / "library"
    folder.mkdir()
    for path in clip_files[:4]:
        shutil.copy(path, folder)
    write_noise_clip(folder / "long.mp4", 7, seconds=10.0)
    (folder / "broken.mp3").write_text("not a sound")
    return folder


@pytest.fixture
def settings(library, retriever_folder, tmp_path) -> IndexSettings:
    return IndexSettings(str(library), str(tmp_path / "index"), str(retriever_folder), section_seconds=4.0)


@pytest.fixture
def worked_on(monkeypatch) -> list[str]:
    """Names of the files that are embedded from now on."""
    names: list[str] = []
    original = indexing.embed_files

    def spy(files, *arguments, **settings):
        names.extend(Path(file.path).name for file in files)
        return original(files, *arguments, **settings)

    monkeypatch.setattr(indexing, "embed_files", spy)
    return names


def titles(folder: str | Path) -> dict[str, int]:
    """How many sections each title has."""
    index = RetrievalIndex.load(folder)
    names = [Path(path).stem for path in index.store.rows["path"].to_pylist()]
    return {name: names.count(name) for name in names}


def test_a_library_becomes_an_index(settings, library, capsys):
    build_index(settings)
    assert titles(settings.index) == {"clip0": 1, "clip1": 1, "clip2": 1, "clip3": 1, "long": 4}
    printed = capsys.readouterr().out
    assert "left out: " in printed
    assert "files: 5 embedded, 1 left out" in printed
    assert "8 items" in printed
    ((name, reason),) = list(csv.reader((Path(settings.index) / "left_out.csv").open()))[1:]
    assert name == str(library / "broken.mp3")
    assert "broken.mp3" in reason
    assert not (Path(settings.index) / "unfinished").exists()


def test_the_part_of_a_track_that_fits_is_found(settings, library, retriever_folder):
    build_index(settings)
    embedder = open_embedder(retriever_folder, "cpu")
    stacks = embedder.processor(audio=library / "long.mp4", start=4.0, end=8.0)
    query = embedder.model.get_audio_features(**stacks).segment_embeds[0]
    best = RetrievalIndex.load(settings.index).search(query, k=1)[0]
    assert (best.title, best.position) == ("long", "0:04-0:08")
    assert best.score == pytest.approx(1, abs=1e-3)


def test_a_second_run_does_only_what_is_new(settings, library, clip_files, worked_on, capsys):
    build_index(settings)
    before = RetrievalIndex.load(settings.index).store.rows.to_pylist()
    worked_on.clear()
    shutil.copy(clip_files[4], library)
    shutil.copy(clip_files[5], library / "clip1.mp4")  # replaced
    (library / "clip2.mp4").unlink()
    build_index(IndexSettings(settings.library, settings.index, settings.model))  # what is not given stays
    assert sorted(worked_on) == ["broken.mp3", "clip1.mp4", "clip4.mp4"]
    assert titles(settings.index) == {"clip0": 1, "clip1": 1, "clip2": 1, "clip3": 1, "clip4": 1, "long": 4}
    assert "1 no more in the library (--remove_vanished takes them out)" in capsys.readouterr().out
    after = {(row["path"], row["start"]): row for row in RetrievalIndex.load(settings.index).store.rows.to_pylist()}
    for row in before:
        same = after[row["path"], row["start"]] == row
        assert same == (not row["path"].endswith("clip1.mp4"))
    settings.remove_vanished = True
    build_index(settings)
    assert titles(settings.index) == {"clip0": 1, "clip1": 1, "clip3": 1, "clip4": 1, "long": 4}
    assert "1 removed" in capsys.readouterr().out


def test_a_run_with_nothing_to_do_leaves_everything(settings, library, worked_on):
    def times() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in Path(settings.index).glob("[!.l]*")}

    (library / "broken.mp3").unlink()
    build_index(settings)
    before = times()
    worked_on.clear()
    build_index(settings)
    assert not worked_on
    assert times() == before
    assert len(before) == 3


def test_a_file_that_breaks_is_taken_out(settings, library, capsys):
    build_index(settings)
    (library / "clip0.mp4").write_text("gone bad")
    build_index(settings)
    assert "clip0" not in titles(settings.index)
    assert {Path(line[0]).name for line in csv.reader((Path(settings.index) / "left_out.csv").open())} == {
        *("path", "broken.mp3", "clip0.mp4")
    }


def test_content_tells_touched_files_from_changed_ones(settings, library, worked_on):
    settings.content_hash = True
    build_index(settings)
    worked_on.clear()
    for path in library.iterdir():
        os.utime(path, ns=(1, 1))
    build_index(settings)
    assert worked_on == ["broken.mp3"]
    settings.content_hash = False
    build_index(settings)
    assert len(worked_on) == 1 + 6


def test_a_manifest_s_new_words_need_no_new_embeddings(settings, library, worked_on):
    manifest = library.parent / "list.csv"
    manifest.write_text("path,genre\nlibrary/clip0.mp4,noise\nlibrary/long.mp4,noise\n")
    settings.library = str(manifest)
    build_index(settings)
    worked_on.clear()
    manifest.write_text("path,genre\nlibrary/clip0.mp4,noise\nlibrary/long.mp4,drone\nlibrary/missing.mp4,noise\n")
    build_index(settings)
    assert not worked_on
    query = torch.zeros(2, 32)
    index = RetrievalIndex.load(settings.index)
    assert [match.title for match in index.search(query, where={"genre": "drone"})] == ["long"]
    assert [match.title for match in index.search(query, where={"genre": "noise"})] == ["clip0"]
    assert "missing.mp4" in (Path(settings.index) / "left_out.csv").read_text()


def test_the_way_of_searching_can_be_changed_without_embedding(settings, worked_on):
    build_index(settings)
    worked_on.clear()
    settings.index_type = "hnsw"
    build_index(settings)
    assert worked_on == ["broken.mp3"]
    assert RetrievalIndex.load(settings.index).facts.index_type == "hnsw"


def test_pictures_can_be_indexed(settings, library, clip_files):
    settings.modality = "video"
    build_index(settings)
    index = RetrievalIndex.load(settings.index)
    (query,) = embed_file(clip_files[2], open_embedder(settings.model, "cpu"), Cutting("video")).embeds
    assert index.search(query, k=1)[0].title == "clip2"
    assert index.facts.modality == "video"


def test_what_does_not_fit_is_refused_before_anything_is_embedded(
    settings, tiny_config, extractor, tmp_path, worked_on
):
    build_index(settings)
    worked_on.clear()
    other = tmp_path / "other"
    CMMixerForRetrieval(tiny_config).save_pretrained(other)
    CMMixerProcessor(extractor).save_pretrained(other)
    changes = [
        ({"model": str(other)}, ModelMismatchError, f"not by {other}"),
        ({"section_seconds": 5.0}, ModelMismatchError, r"section_seconds 4.0, not 5.0"),
        ({"modality": "video"}, ModelMismatchError, "modality audio, not video"),
        ({"uri": "http://127.0.0.1:1"}, SourceError, "keeps its items in files"),
        ({"modality": "smell"}, SourceError, "must be one of video, audio, got smell"),
        ({"index_type": "tree"}, SourceError, "must be one of flat, ivf, hnsw, got tree"),
        ({"section_hop": 0.0}, SourceError, "--section_hop more than 0"),
        ({"section_seconds": math.nan}, SourceError, "--section_seconds must be 0 or more"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
    ]
    for change, error, message in changes:
        with pytest.raises(error, match=message):
            build_index(IndexSettings(**(vars(settings) | change)))
    assert not worked_on
    with FileLock(Path(settings.index) / ".lock"), pytest.raises(SourceError, match="another run is writing"):
        build_index(settings)


def test_precision_and_what_is_computed_in_are_choices_that_move_scores_a_little(settings, library, tmp_path):
    build_index(settings)
    exact = RetrievalIndex.load(settings.index)
    coarse = replace(settings, index=str(tmp_path / "coarse"), compute="bfloat16", precision="int8")
    build_index(coarse)
    index = RetrievalIndex.load(coarse.index)
    assert (exact.facts.precision, index.facts.precision) == ("float16", "int8")
    (query,) = exact.store.candidates(np.ones((1, exact.facts.size), np.float32), 1, {})
    first, second = (found.search(query.segments[0], k=1)[0] for found in (exact, index))
    assert first.title == second.title
    assert 0 < abs(second.score - first.score) < 0.02
    build_index(replace(coarse, precision=None))  # what is not given stays
    with pytest.raises(ModelMismatchError, match="precision int8, not float16"):
        build_index(replace(coarse, precision="float16"))


def test_a_library_without_one_usable_file_is_an_error(settings, library, capsys):
    for path in library.iterdir():
        path.write_text("nothing")
    with pytest.raises(MediaError, match="no file is usable"):
        build_index(settings)
    assert capsys.readouterr().out.count("left out") == 6
    with pytest.raises(DamagedIndexError, match="holds no index"):
        RetrievalIndex.load(settings.index)


INTERRUPTED = """
import sys
from cmmixer_hf.search import unfinished
from cmmixer_hf.cli import main
unfinished.SECONDS_PER_PART = 0
sys.exit(main(sys.argv[1:]))
"""


def test_killed_half_way_it_goes_on(settings, library, worked_on, tmp_path):
    for number in range(40):  # enough that the kill comes in between
        shutil.copy(library / "clip0.mp4", library / f"more{number:02}.mp4")
    arguments = ["index", settings.library, settings.index, "--model", settings.model, "--section_seconds", "4"]
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments, "--batch_size", "1"], stderr=subprocess.DEVNULL
    )
    parts = Path(settings.index) / "unfinished"
    while run.poll() is None and len(list(parts.glob("part-*"))) < 3:
        time.sleep(0.002)
    run.send_signal(signal.SIGKILL)
    run.wait()
    with pytest.raises(DamagedIndexError, match="holds no index"):
        RetrievalIndex.load(settings.index)
    build_index(settings)
    assert 0 < len(worked_on) <= 46 - 3
    resumed = {(row["path"], row["start"]): row for row in RetrievalIndex.load(settings.index).store.rows.to_pylist()}
    settings.index = str(tmp_path / "at once")
    build_index(settings)
    at_once = {(row["path"], row["start"]): row for row in RetrievalIndex.load(settings.index).store.rows.to_pylist()}
    assert resumed.keys() == at_once.keys()
    for place, row in resumed.items():
        assert row["segment_embeds"] == pytest.approx(at_once[place]["segment_embeds"], abs=1e-5)


@pytest.mark.slow
def test_two_processes_share_the_work(settings, tmp_path):
    build_index(settings)
    folder = tmp_path / "by two"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", "cmmixer_hf.cli", "index", settings.library, str(folder), "--model", settings.model]
    answer = subprocess.run([*command, "--section_seconds", "4"], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    assert "files: 5 embedded, 1 left out" in answer.stdout
    one, two = (RetrievalIndex.load(place).store.rows.sort_by("path").to_pylist() for place in (settings.index, folder))
    assert [row["path"] for row in one] == [row["path"] for row in two]
    query = torch.nn.functional.normalize(torch.randn(2, 32), dim=-1)
    by_one, by_two = (RetrievalIndex.load(place).search(query) for place in (settings.index, folder))
    assert [match.score for match in by_one] == pytest.approx([match.score for match in by_two], abs=1e-5)
