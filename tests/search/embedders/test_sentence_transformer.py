"""Sentence Transformers that take media, against their own `encode`."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import make_clap
from safetensors.torch import load_file, save_file
from torch import nn

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.loading import SavedModel
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedders.sentence_transformer import SentenceTransformerEmbedder

st = pytest.importorskip(
    "sentence_transformers", reason="needs sentence-transformers: pip install cmmixer_hf[sentence]"
)
PROMPTS = {"query": "noise ", "document": ""}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """CLAP as a Sentence Transformer of sound and words, with a prompt for queries."""
    home = tmp_path_factory.mktemp("sentence")
    model = st.SentenceTransformer(str(make_clap(home / "clap")), device="cpu", prompts=PROMPTS)
    model.save_pretrained(str(home / "model"))
    return home / "model"


def test_sound_and_words_are_embedded_as_its_own_encode_does(folder):
    embedder = SentenceTransformerEmbedder(SavedModel(str(folder), "", {}), "cpu", num_segments=2)
    assert (embedder.modalities, embedder.size, embedder.sampling("audio").sampling_rate) == (
        ("audio", "text"),
        16,
        48000,
    )
    model = st.SentenceTransformer(str(folder), device="cpu")
    # Longer than 10 s, so that CLAP's own extractor does not choose one of them at random.
    sounds = 0.1 * np.random.default_rng(0).standard_normal((1, 2, 12 * 48000)).astype(np.float32)
    np.random.seed(0)
    expected = model.encode_document([{"array": wave, "sampling_rate": 48000} for wave in sounds[0]])
    np.random.seed(0)
    got = embedder.embed_batch(list(sounds), "audio")[0]
    torch.testing.assert_close(got, nn.functional.normalize(torch.from_numpy(expected), dim=-1))
    words = torch.from_numpy(model.encode_query(["calm piano"]))
    assert not np.allclose(words, model.encode_document(["calm piano"]))
    torch.testing.assert_close(
        embedder.embed_text(["calm piano"], "audio")[0, :1], nn.functional.normalize(words, dim=-1)
    )


def test_half_a_model_is_refused(folder, tmp_path):
    half = shutil.copytree(folder, tmp_path / "half")
    weights = load_file(half / "model.safetensors")
    del weights["text_projection.linear1.weight"]
    save_file(weights, half / "model.safetensors", {"format": "pt"})
    with pytest.raises(SourceError, match=r"lacks 1 of the weights of a ClapModel, such as text_projection\.linear1"):
        SentenceTransformerEmbedder(SavedModel(str(half), "", {}), "cpu")


class MeanColours(nn.Module):
    """A module that takes videos: the mean colour of a clip and nothing else."""

    modalities = ("video", "text")

    def preprocess(self, inputs, prompt=None, **kwargs):
        seen = [np.zeros(3) if isinstance(one, str) else one["array"].mean((0, 2, 3)) for one in inputs]
        assert all(isinstance(one, str) or one["video_metadata"]["fps"] == 1 for one in inputs)
        return {"features": torch.tensor(np.stack(seen), dtype=torch.float32)}

    def forward(self, features, **kwargs):
        return features | {"sentence_embedding": features["features"]}


def test_videos_are_handed_over_with_their_rate(monkeypatch):
    model = st.SentenceTransformer(modules=[MeanColours()], device="cpu")
    monkeypatch.setattr(st, "SentenceTransformer", lambda name, **options: model)
    embedder = SentenceTransformerEmbedder(SavedModel("colours", "", {}), "cpu", num_segments=2)
    sampling = embedder.sampling("video")
    assert sampling.num_frames == 20
    clip = np.random.default_rng(0).integers(0, 256, (20, 6, 8, 3), dtype=np.uint8)
    expected = [half.mean((0, 1, 2)) for half in np.split(clip, 2)]
    expected = nn.functional.normalize(torch.tensor(np.stack(expected), dtype=torch.float32), dim=-1)
    torch.testing.assert_close(embedder.embed_batch([clip], "video")[0], expected)


def test_one_of_words_alone_is_refused(monkeypatch, tmp_path):
    model = st.SentenceTransformer(modules=[MeanColours()], device="cpu")
    monkeypatch.setattr(MeanColours, "modalities", ("text",))
    monkeypatch.setattr(st, "SentenceTransformer", lambda name, **options: model)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(SourceError, match="takes text, neither video nor audio"):
        open_embedder(tmp_path)
