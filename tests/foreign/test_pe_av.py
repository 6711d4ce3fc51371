"""PE-AV on a tiny random checkpoint: against transformers' own forward, and through an index."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_models import make_pe_av
from torch import nn

from cmmixer_hf.cli import main
from cmmixer_hf.search.embedders.embedder import open_embedder

pytest.importorskip("timm", reason="PE-AV needs timm and torchvision: `make foreign`", exc_type=ImportError)
pytest.importorskip("torchvision", reason="PE-AV needs timm and torchvision: `make foreign`", exc_type=ImportError)

RATE = 48000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_pe_av(tmp_path_factory.mktemp("pe-av"))


@pytest.fixture(scope="module")
def embedder(folder):
    return open_embedder(folder, "cpu", num_segments=2)


def test_sound_pictures_and_words_are_embedded_as_transformers_does(embedder, folder):
    from transformers import PeAudioVideoModel, PeAudioVideoProcessor

    rng = np.random.default_rng(0)
    sounds = list(0.1 * rng.standard_normal((2, 2, 3 * RATE)).astype(np.float32))
    clips = list(rng.integers(0, 256, (2, 2 * embedder.frames_per_window, 40, 50, 3), dtype=np.uint8))
    model, processor = PeAudioVideoModel.from_pretrained(folder).eval(), PeAudioVideoProcessor.from_pretrained(folder)
    windows = [window for clip in sounds for window in clip]
    videos = [torch.from_numpy(half).permute(0, 3, 1, 2) for clip in clips for half in np.split(clip, 2)]
    inputs = processor.feature_extractor(windows, sampling_rate=RATE, return_tensors="pt")
    inputs |= processor.video_processor(videos, do_sample_frames=False, return_tensors="pt")
    inputs |= processor.tokenizer(["calm piano"] * 4, return_tensors="pt")
    with torch.inference_mode():
        output = model(**inputs)
    for got, expected in (
        (embedder.embed_batch(sounds, "audio").flatten(0, 1), output.audio_embeds),
        (embedder.embed_batch(clips, "video").flatten(0, 1), output.video_embeds),
        (embedder.embed_text(["calm piano"] * 4, "audio")[:, 0], output.text_audio_embeds),
        (embedder.embed_text(["calm piano"] * 4, "video")[:, 1], output.text_video_embeds),
    ):
        torch.testing.assert_close(got, nn.functional.normalize(expected, dim=-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_library_is_indexed_and_asked_by_video_sound_and_words(folder, clip_files, tmp_path, capsys, modality):
    pytest.importorskip("faiss", reason="the index needs faiss-cpu")
    index = str(tmp_path / "index")
    arguments = ["index", str(clip_files[0].parent), index, "--model", str(folder), "--modality", modality]
    assert main([*arguments, "--num_segments", "2"]) == 0
    capsys.readouterr()
    assert main(["search", f"{clip_files[1]}:{modality}", index, "--json"]) == 0
    best = json.loads(capsys.readouterr().out)["matches"][0]
    assert (best["title"], best["score"]) == ("clip1", pytest.approx(1, abs=1e-4))
    assert main(["search", str(clip_files[1]), index, "--minus", "text:sad", "--plus", f"{clip_files[2]}:audio"]) == 0
    assert main(["search", "--text", "calm piano for a sunset", index]) == 0
    assert "text:calm piano for a sunset" in capsys.readouterr().out
