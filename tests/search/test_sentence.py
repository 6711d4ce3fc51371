"""Sentence Transformers' own machinery on our retrievers, and the same embeddings as ours."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cmmixer_hf import CMMixerForRetrieval
from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.search import Cutting, embed_file, open_embedder

st = pytest.importorskip(
    "sentence_transformers", reason="needs Sentence Transformers: pip install cmmixer_hf[sentence]"
)
from cmmixer_hf.search.sentence import sentence_transformer  # noqa: E402 - it imports what may be missing


@pytest.fixture(scope="module")
def model(retriever_folder):
    return sentence_transformer(retriever_folder, device="cpu")


@pytest.fixture(scope="module")
def paths(clip_files) -> list[str]:
    return [str(path) for path in clip_files]


@pytest.fixture(scope="module")
def ours(retriever_folder, clip_files) -> dict[str, torch.Tensor]:
    """Segments of every clip, (clips, K, size), by side."""
    embedder = open_embedder(retriever_folder)
    return {
        side: torch.stack([embed_file(path, embedder, Cutting(side)).embeds[0] for path in clip_files])
        for side in ("video", "audio")
    }


@pytest.mark.parametrize(("encode", "side"), [("encode_query", "video"), ("encode_document", "audio")])
def test_embeddings_are_ours(model, paths, ours, encode, side):
    embeds = torch.from_numpy(getattr(model, encode)(paths, batch_size=3))
    torch.testing.assert_close(embeds, ours[side].flatten(1) / ours[side].shape[1] ** 0.5, rtol=0, atol=1e-5)


def test_similarity_is_the_mean_over_segments(model, paths, ours):
    scores = model.similarity(model.encode_query(paths), model.encode_document(paths))
    expected = torch.einsum("nks,mks->nmk", ours["video"], ours["audio"]).mean(-1)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_clips_in_other_forms(model, paths, ours):
    """A path alone is its picture; both sides of a dictionary are added; a waveform says its rate."""
    both = {"video": paths[0], "audio": paths[0]}
    plain, added = torch.from_numpy(model.encode([paths[0]])), torch.from_numpy(model.encode([both]))
    torch.testing.assert_close(plain, torch.from_numpy(model.encode_query(paths[:1])))
    expected = torch.nn.functional.normalize(ours["video"][:1] + ours["audio"][:1], dim=-1)
    torch.testing.assert_close(added, expected.flatten(1) / expected.shape[1] ** 0.5, rtol=0, atol=1e-5)
    rate = model[0].processor.feature_extractor.sampling_rate
    wave = np.random.default_rng(0).uniform(-1, 1, 4 * rate).astype(np.float32)
    assert model.encode([{"array": wave, "sampling_rate": rate}]).shape == plain.shape


def test_small_embeddings(model, paths):
    binary = model.encode(paths, precision="ubinary")
    assert binary.dtype == np.uint8
    assert model.encode(paths, precision="int8").dtype == np.int8
    assert 8 * binary.shape[1] == model.encode(paths).shape[1]


@pytest.mark.slow
def test_a_pool_of_processes(model, paths):
    pool = model.start_multi_process_pool(["cpu", "cpu"])
    try:
        spread = model.encode_document(paths, pool=pool, chunk_size=2)
    finally:
        model.stop_multi_process_pool(pool)
    np.testing.assert_allclose(spread, model.encode_document(paths), atol=1e-5)


def test_their_evaluator_finds_what_is_right(model, paths):
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    names = {str(number): path for number, path in enumerate(paths)}
    evaluator = InformationRetrievalEvaluator(
        names, names, {name: {name} for name in names}, accuracy_at_k=[len(names)]
    )
    assert evaluator(model)[f"cosine_accuracy@{len(names)}"] == 1.0


def test_a_saved_one_is_both(model, paths, tmp_path):
    model.save_pretrained(str(tmp_path))
    again = st.SentenceTransformer(str(tmp_path), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode_document(paths), model.encode_document(paths), atol=1e-6)
    assert again.prompts == {"query": "video", "document": "audio"}
    assert CMMixerForRetrieval.from_pretrained(tmp_path).num_parameters() == model[0].model.num_parameters()
    found = json.loads((tmp_path / "sentence_bert_config.json").read_text())["modality_config"]
    assert found.keys() == {"video", "audio"}  # where mteb reads what a model takes


class Batches(list):
    """Batches as mteb's loaders give them, of a data set that has these columns."""

    @property
    def dataset(self) -> SimpleNamespace:
        return SimpleNamespace(features=self[0])


def test_mteb_encodes_what_its_loaders_give(model):
    wrappers = pytest.importorskip("mteb.models", reason="needs mteb")
    import mteb

    wrapper = wrappers.SentenceTransformerEncoderWrapper(model, num_frames=2)
    wrapper.mteb_model_meta = wrapper.mteb_model_meta.model_copy(update={"modalities": ["video", "audio"]})
    sound = {"array": np.sin(np.arange(32000) / 9).astype(np.float32), "sampling_rate": 16000}
    clips = {"query": {"video": [torch.zeros(2, 3, 40, 40, dtype=torch.uint8)] * 3}, "document": {"audio": [sound] * 3}}
    options = {"task_metadata": mteb.get_task("NFCorpus").metadata, "hf_split": "test", "hf_subset": "default"}
    for kind, batch in clips.items():
        found = wrapper.encode(Batches([batch]), prompt_type=mteb.types.PromptType(kind), **options)
        assert len(found) == 3
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_what_cannot_be_meant_is_refused(model, paths, tmp_path):
    with pytest.raises(ValueError, match="which side of a file is meant, video or audio; got 'music for '"):
        model.encode(paths, prompt="music for ")
    with pytest.raises(ValueError, match=r"keys video and audio, got \['text'\]"):
        model[0].preprocess([{"text": "a song"}])
    with pytest.raises(SourceError, match=r"holds no config\.json"):
        sentence_transformer(tmp_path)
