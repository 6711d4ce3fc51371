"""CLAP, sound and words: a tiny random checkpoint against transformers' own forward, and the way through an index."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import make_clap
from torch import nn

from cmmixer_hf.cli import main
from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.media.reading import write_clip
from cmmixer_hf.search import QueryPart, Searcher
from cmmixer_hf.search.embedders.clap import CLAPEmbedder
from cmmixer_hf.search.embedders.embedder import open_embedder

RATE = 48000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def embedder(folder) -> CLAPEmbedder:
    return open_embedder(folder, "cpu")


@pytest.fixture(scope="module")
def sounds() -> list[np.ndarray]:
    """Two sections of three windows."""
    return list(0.1 * np.random.default_rng(0).standard_normal((2, 3, 10 * RATE)).astype(np.float32))


@pytest.fixture(scope="module")
def music(tmp_path_factory) -> Path:
    library = tmp_path_factory.mktemp("music")
    for number in range(3):
        noise = np.random.default_rng(number).standard_normal(4 * 16000) * np.geomspace(1, 0.01, 4 * 16000)
        noise = np.convolve(noise, np.ones(1 + 4 * number), "same")
        write_clip(library / f"track{number}.m4a", None, (0.05 * noise).astype(np.float32), sampling_rate=16000)
    return library


def test_sound_is_embedded_as_transformers_does(embedder, sounds):
    from transformers import ClapModel, ClapProcessor

    model, processor = ClapModel.from_pretrained(embedder.name).eval(), ClapProcessor.from_pretrained(embedder.name)
    windows = [window for clip in sounds for window in clip]
    inputs = processor.feature_extractor(windows, sampling_rate=RATE, return_tensors="pt")
    inputs["is_longer"] = torch.zeros(6, 1, dtype=torch.bool)
    tokens = processor.tokenizer(["calm piano"], return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs, **tokens)
    embeds = embedder.embed_batch(sounds, "audio")
    torch.testing.assert_close(embeds.flatten(0, 1), nn.functional.normalize(output.audio_embeds, dim=-1))
    words = embedder.embed_text(["calm piano"], "audio")
    torch.testing.assert_close(words, nn.functional.normalize(output.text_embeds, dim=-1)[:, None].repeat(1, 3, 1))


def test_the_same_sound_gives_the_same_embedding_every_time(embedder, sounds):
    first, second = (embedder.embed_batch(sounds, "audio") for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_what_it_is_and_what_it_does_not_know(embedder, folder, sounds):
    assert (embedder.num_segments, embedder.size, embedder.modalities) == (3, 16, ("audio", "text"))
    assert (embedder.sampling("audio").sampling_rate, embedder.sampling("audio").window_seconds) == (RATE, 10.0)
    with pytest.raises(SourceError, match="knows no video, only audio and text: ask with audio and text"):
        embedder.embed_batch(sounds, "video")
    one = open_embedder(folder, "cpu", num_segments=1)
    assert one.embed_batch([sounds[0][:1]], "audio").shape == (1, 1, 16)
    assert one.identity != embedder.identity
    with pytest.raises(SourceError, match="--num_segments must be at least 1, got 0"):
        open_embedder(folder, "cpu", num_segments=0)


def test_a_library_is_indexed_and_asked_by_sound_and_words(folder, music, clip_files, tmp_path, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    index = tmp_path / "index"
    assert main(["index", str(music), str(index), "--model", str(folder)]) == 0
    capsys.readouterr()
    track = str(music / "track1.m4a")
    assert main(["search", track, str(index), "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["matches"][0]
    assert (best["title"], best["score"]) == ("track1", pytest.approx(1, abs=1e-3))
    assert main(["search", "--text", "calm piano for a sunset", str(index)]) == 0
    assert "text:calm piano for a sunset" in capsys.readouterr().out
    assert main(["search", track, str(index), "--minus", "text:sad:0.5", "--text", "calm"]) == 0
    searcher = Searcher(index)
    words = QueryPart(text="calm piano")
    (plain, bent) = (searcher(track, plus=plus) for plus in ([], [words]))
    assert [match.score for match in plain] != [match.score for match in bent]
    by_words = searcher.embedder.embed_text(["calm piano"], "audio")[0]
    assert searcher(words) == searcher.index.search(by_words)
    assert searcher(clip_files[0])[0].title.startswith("track")  # a video is asked by its sound


def test_another_number_of_windows_is_another_index(folder, music, tmp_path, capsys):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    arguments = ["index", str(music), str(tmp_path / "index"), "--model", str(folder)]
    assert main([*arguments, "--num_segments", "1"]) == 0
    assert Searcher(tmp_path / "index").embedder.num_segments == 1
    assert main(arguments) == 0
    assert "3 unchanged" in capsys.readouterr().out
    assert main([*arguments, "--num_segments", "2"]) == 1
    assert "was made by" in capsys.readouterr().err
