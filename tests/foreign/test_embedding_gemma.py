"""EmbeddingGemma 2 on a tiny random checkpoint: against its own encoding of queries and documents, and in an index."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import make_embedding_gemma
from torch import nn

from cmmixer_hf.cli import main
from cmmixer_hf.search.embedders.embedder import open_embedder

NEEDED = "EmbeddingGemma 2 needs sentence-transformers and torchvision: `make foreign`"
st = pytest.importorskip("sentence_transformers", reason=NEEDED, exc_type=ImportError)
pytest.importorskip("torchvision", reason=NEEDED, exc_type=ImportError)
pytest.importorskip("transformers.models.embedding_gemma2", reason="this transformers has no EmbeddingGemma 2")

RATE = 16000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_embedding_gemma(tmp_path_factory.mktemp("embedding-gemma"))


@pytest.fixture(scope="module")
def embedder(folder):
    return open_embedder(folder, "cpu", num_segments=2)


@pytest.fixture(scope="module")
def model(folder):
    return st.SentenceTransformer(str(folder), device="cpu")


def unit(vectors: np.ndarray) -> torch.Tensor:
    return nn.functional.normalize(torch.from_numpy(vectors), dim=-1)


def test_it_is_taken_for_what_it_is(embedder):
    assert (embedder.modalities, embedder.size, embedder.num_segments) == (("video", "audio", "text"), 24, 2)
    assert embedder.sampling("audio").sampling_rate == RATE
    assert embedder.sampling("video").num_frames == 20  # one a second


@pytest.mark.parametrize("is_query", [True, False])
def test_sound_and_pictures_are_embedded_as_its_own_encode_does(embedder, model, is_query):
    encode = model.encode_query if is_query else model.encode_document
    rng = np.random.default_rng(0)
    sounds = 0.1 * rng.standard_normal((2, 3 * RATE)).astype(np.float32)
    clip = rng.integers(0, 256, (20, 224, 300, 3), dtype=np.uint8)
    facts = {"fps": 1, "total_num_frames": 10, "duration": 10.0}
    videos = [{"array": half.transpose(0, 3, 1, 2).copy(), "video_metadata": dict(facts)} for half in np.split(clip, 2)]
    expected = unit(encode([{"array": sound, "sampling_rate": RATE} for sound in sounds]))
    torch.testing.assert_close(embedder.embed_batch([sounds], "audio", is_query=is_query)[0], expected)
    torch.testing.assert_close(embedder.embed_batch([clip], "video", is_query=is_query)[0], unit(encode(videos)))


def test_words_are_asked_with_the_prompt_of_queries(embedder, model):
    (words,) = embedder.embed_text(["calm piano"], "audio")
    torch.testing.assert_close(words, unit(model.encode_query(["calm piano"] * 2)))
    assert not torch.allclose(words, unit(model.encode_document(["calm piano"] * 2)), atol=1e-3)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_library_is_indexed_and_asked_by_video_sound_and_words(folder, clip_files, tmp_path, capsys, modality):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    index = str(tmp_path / "index")
    arguments = ["index", str(clip_files[0].parent), index, "--model", str(folder), "--modality", modality]
    assert main([*arguments, "--num_segments", "2"]) == 0
    assert main(["search", "--text", "calm piano for a sunset", index, "--minus", f"{clip_files[2]}:audio"]) == 0
    capsys.readouterr()
    assert main(["search", str(clip_files[1]), index, "--plus", "text:calm", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["matches"]) == len(clip_files)
