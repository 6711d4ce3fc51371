import pytest
import torch

from cmmixer_hf.data.prepared_clips import SourceError
from cmmixer_hf.media.processing_cmmixer import clip_sampling
from cmmixer_hf.media.reading import read_clip
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedders.towers import TowerEmbedder
from cmmixer_hf.search.embedding import Cutting, embed_file


@pytest.fixture(scope="module")
def embedder(retriever_folder) -> TowerEmbedder:
    return open_embedder(retriever_folder, "cpu")


def embed(embedder, path, modality) -> torch.Tensor:
    return embed_file(path, embedder, Cutting(modality)).embeds[0]


def test_a_file_is_embedded_as_processor_and_model_do_it(embedder, clip_files):
    path = clip_files[0]
    features = embedder.model.get_audio_features(**embedder.processor(audio=path))
    torch.testing.assert_close(embed(embedder, path, "audio"), features.segment_embeds[0])
    features = embedder.model.get_video_features(**embedder.processor(videos=path))
    torch.testing.assert_close(embed(embedder, path, "video"), features.segment_embeds[0])
    torch.testing.assert_close(embed(embedder, path, "video").norm(dim=-1), torch.ones(2))


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_a_batch_is_its_files(embedder, clip_files, modality):
    sampling = clip_sampling(embedder.extractor)
    clips = [read_clip(path, sampling) for path in clip_files[:3]]
    arrays = [clip.frames if modality == "video" else clip.waveforms for clip in clips]
    expected = torch.stack([embed(embedder, path, modality) for path in clip_files[:3]])
    torch.testing.assert_close(embedder.embed_batch(arrays, modality), expected)


def test_words_are_refused_with_the_models_that_know_them(embedder):
    with pytest.raises(SourceError, match=r"knows no words, only sound and pictures: .* facebook/pe-av-small"):
        embedder.embed_text(["calm piano"], "audio")


def test_the_number_of_segments_is_the_models_own(embedder, retriever_folder):
    assert (embedder.num_segments, embedder.size) == (2, 32)
    with pytest.raises(SourceError, match="gives 2 vectors a section, not 5: leave --num_segments out"):
        open_embedder(retriever_folder, num_segments=5)
