"""mteb's own evaluation of our models, on a tiny task of files that lie here."""

from types import SimpleNamespace

import pytest
import torch
from datasets import Audio, Dataset, Features, Value, Video

from cmmixer_hf.data.batches import SourceError
from cmmixer_hf.evaluation.retrieval import ClipEmbeddings, evaluate_retrieval
from cmmixer_hf.search.embedding import Embedder
from cmmixer_hf.search.mteb import CMMixerEncoder, read_batch, undecoded


@pytest.fixture(scope="module")
def encoder(retriever_folder) -> CMMixerEncoder:
    return CMMixerEncoder(str(retriever_folder))


@pytest.fixture(scope="module")
def dataset(clip_files) -> Dataset:
    """Each clip's file twice, once for its picture and once for its sound; some as bytes, as on the Hub."""
    files = [{"path": str(path), "bytes": None} for path in clip_files[:3]]
    files += [{"path": path.name, "bytes": path.read_bytes()} for path in clip_files[3:]]
    file = {"bytes": Value("binary"), "path": Value("string")}
    columns = {"id": [path.stem for path in clip_files], "video": files, "audio": files}
    plain = Dataset.from_dict(columns, features=Features({"id": Value("string"), "video": file, "audio": file}))
    return plain.cast_column("video", Video()).cast_column("audio", Audio())


def load(dataset: Dataset, columns=("video", "audio")) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(dataset.select_columns(["id", *columns]), batch_size=4)


def task(*modalities: str) -> SimpleNamespace:
    return SimpleNamespace(name="A task", get_modalities=lambda prompt_type: list(modalities))


def make_task(name: str, category: str, dataset: Dataset):
    """One of mteb's retrieval tasks, in which a clip's sound is the right answer to its picture or the other way."""
    from mteb.abstasks.retrieval import AbsTaskRetrieval
    from mteb.abstasks.retrieval_dataset_loaders import RetrievalSplitData
    from mteb.abstasks.task_metadata import TaskMetadata

    sides = {"v": "video", "a": "audio"}
    query, answer = (sides[side] for side in category.split("2"))

    class Task(AbsTaskRetrieval):
        metadata = TaskMetadata(
            name=name,
            description="Whose sound is it?",
            reference=None,
            dataset={"path": "nobody/nothing", "revision": "none"},
            type="Any2AnyRetrieval",
            category=category,
            modalities=[query, answer],
            eval_splits=["test"],
            eval_langs=["zxx-Zxxx"],
            main_score="ndcg_at_10",
            date=("2026-01-01", "2026-01-01"),
            domains=["Web"],
            task_subtypes=[],
            license="cc0-1.0",
            annotations_creators="derived",
            dialect=[],
            sample_creation="created",
            bibtex_citation="",
        )

        def load_data(self, **kwargs):
            split = RetrievalSplitData(
                queries=dataset.select_columns(["id", query]),
                corpus=dataset.select_columns(["id", answer]),
                relevant_docs={name: {name: 1} for name in dataset["id"]},
                top_ranked=None,
            )
            self.dataset, self.data_loaded = {"default": {"test": split}}, True

    return Task()


@pytest.fixture(scope="module")
def scores(encoder, dataset) -> dict[str, dict]:
    """What mteb finds, by category."""
    mteb = pytest.importorskip("mteb", reason="mteb is not installed: pip install cmmixer_hf[mteb]")
    tasks = [make_task(f"Tiny{category.upper()}Retrieval", category, dataset) for category in ("v2a", "a2v")]
    result = mteb.evaluate(encoder, tasks, cache=None, encode_kwargs={"batch_size": 4}, show_progress_bar=False)
    assert result.model_name == encoder.mteb_model_meta.name
    assert result.model_revision == encoder.embedder.identity
    return {task.task_name[4:7].lower(): task.scores["test"][0] for task in result.task_results}


@pytest.mark.parametrize(("category", "direction"), [("v2a", "video_to_audio"), ("a2v", "audio_to_video")])
def test_mteb_finds_what_our_own_evaluation_finds(scores, clip_files, retriever_folder, category, direction):
    embedder = Embedder(str(retriever_folder))
    video, audio = (torch.stack([embedder(path, side) for path in clip_files]) for side in ("video", "audio"))
    ours = evaluate_retrieval(ClipEmbeddings(video, audio))[direction]
    for k in (1, 5, 10):
        assert scores[category][f"recall_at_{k}"] == pytest.approx(ours[f"R@{k}"] / 100, abs=1e-5)


def test_the_cosine_of_two_embeddings_is_the_mean_over_segments(encoder, dataset, clip_files):
    video, audio = (encoder.encode(load(dataset), task_metadata=task(side)) for side in ("video", "audio"))
    segments = [[encoder.embedder(path, side) for path in clip_files] for side in ("video", "audio")]
    expected = torch.einsum("nld,mld->nm", *map(torch.stack, segments)) / 2
    torch.testing.assert_close(encoder.similarity(video, audio), expected)
    torch.testing.assert_close(encoder.similarity_pairwise(video, audio), expected.diagonal())


def test_picture_and_sound_together_lie_between_the_two(encoder, dataset):
    video, audio, both = (
        encoder.encode(load(dataset), task_metadata=task(*sides)).unflatten(1, (2, -1))
        for sides in (("video",), ("audio",), ("video", "audio"))
    )
    torch.testing.assert_close(both, torch.nn.functional.normalize(video + audio, dim=-1))


def test_text_is_refused_with_the_tasks_that_are_not(encoder, dataset):
    with pytest.raises(SourceError, match="A task asks for text, and this model knows video and audio alone: take"):
        encoder.encode(load(dataset), task_metadata=task("text", "video"))


def test_columns_without_files_are_refused(sampling):
    with pytest.raises(
        SourceError, match="audio of one is no file but list: give columns of datasets' Video and Audio"
    ):
        read_batch([{"id": "one", "audio": [0.0, 0.1]}], modalities=["audio"], sampling=sampling)


def test_nothing_is_decoded_by_datasets(dataset):
    row = undecoded(dataset)[0]
    assert row["video"]["path"] == row["audio"]["path"]
