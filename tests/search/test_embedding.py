import shutil

import pytest
import torch
from torch import nn

from cmmixer_hf import CMMixerFeatureExtractor, CMMixerForRetrieval, CMMixerProcessor
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.media.processing_cmmixer import clip_sampling
from cmmixer_hf.media.reading import MediaError, read_clip
from cmmixer_hf.search.embedding import Embedder, model_identity


@pytest.fixture(scope="module")
def embedder(retriever_folder) -> Embedder:
    return Embedder(str(retriever_folder), "cpu")


def test_a_file_is_embedded_as_processor_and_model_do_it(embedder, clip_files):
    path = clip_files[0]
    features = embedder.model.get_audio_features(**embedder.processor(audio=path))
    torch.testing.assert_close(embedder(path, "audio"), features.segment_embeds[0])
    features = embedder.model.get_video_features(**embedder.processor(videos=path))
    torch.testing.assert_close(embedder(path), features.segment_embeds[0])  # it has a picture
    torch.testing.assert_close(embedder(path).norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_batch_is_its_files(embedder, clip_files, modality):
    sampling = clip_sampling(embedder.extractor)
    clips = [read_clip(path, sampling) for path in clip_files[:3]]
    arrays = [clip.frames if modality == "video" else clip.waveforms for clip in clips]
    expected = torch.stack([embedder(path, modality) for path in clip_files[:3]])
    torch.testing.assert_close(embedder.embed_batch(arrays, modality), expected)


def test_what_is_no_media_file_is_named(embedder, tmp_path):
    (tmp_path / "note.mp4").write_text("not a video")
    with pytest.raises(MediaError, match=r"note\.mp4"):
        embedder(tmp_path / "note.mp4")


def test_a_model_that_is_not_there_is_named():
    with pytest.raises(SourceError, match=r"\./no/such/model is neither"):
        Embedder("./no/such/model")


def test_the_identity_does_not_depend_on_the_place(embedder, retriever_folder, tmp_path):
    shutil.copytree(retriever_folder, tmp_path / "copy")
    assert Embedder(str(tmp_path / "copy"), "cpu").identity == embedder.identity
    model = CMMixerForRetrieval.from_pretrained(retriever_folder)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="50KB")
    CMMixerProcessor(CMMixerFeatureExtractor(image_size=32, num_frames=2)).save_pretrained(tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert Embedder(str(tmp_path / "sharded"), "cpu").identity == embedder.identity


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
