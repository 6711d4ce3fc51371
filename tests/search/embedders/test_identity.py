import shutil

import torch
from torch import nn

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedders.identity import model_identity, weights_identity


def test_the_identity_does_not_depend_on_the_place(retriever_folder, tmp_path):
    embedder = open_embedder(retriever_folder, "cpu")
    shutil.copytree(retriever_folder, tmp_path / "copy")
    assert open_embedder(tmp_path / "copy", "cpu").identity == embedder.identity
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=2)).save_pretrained(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert open_embedder(tmp_path / "sharded", "cpu").identity == embedder.identity


def test_the_identity_knows_what_embeds_otherwise(retriever_folder):
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2)
    seen = {model_identity(model, extractor)}
    for other in ({"window_seconds": 1.3}, {"num_mel_bins": 64}, {"audio_mean": 0.0}):
        seen.add(model_identity(model, CMMixerFeatureExtractor(image_size=32, num_frames=2, **other)))
    model.config.layer_norm_eps = 1e-5
    seen.add(model_identity(model, extractor))
    with torch.no_grad():
        nn.init.normal_(list(model.parameters())[-1])
    seen.add(model_identity(model, extractor))
    assert len(seen) == 6


def test_weights_and_settings_make_an_identity():
    torch.manual_seed(0)
    layer = nn.Linear(3, 3)
    before = weights_identity(layer, {"windows": 3})
    assert weights_identity(layer, {"windows": 3, "dtype": "float32"}) == before
    assert weights_identity(layer, {"windows": 1}) != before
