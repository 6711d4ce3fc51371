import numpy as np
import pytest
import torch
from conftest import write_noise_clip

from cmmixer_hf.media.reading import write_clip
from cmmixer_hf.search import embedding as bulk_embedding
from cmmixer_hf.search.embedders.embedder import open_embedder
from cmmixer_hf.search.embedders.towers import TowerEmbedder
from cmmixer_hf.search.embedding import Cutting, embed_file, embed_files
from cmmixer_hf.search.library import LibraryFile


@pytest.fixture(scope="module")
def embedder(retriever_folder) -> TowerEmbedder:
    return open_embedder(retriever_folder, "cpu")


@pytest.fixture(scope="module")
def library(tmp_path_factory, clip_files) -> list[LibraryFile]:
    """Two short files, a long one, one that is damaged, one without sound, and one whose second half is silent."""
    folder = tmp_path_factory.mktemp("library")
    long = write_noise_clip(folder / "long.mp4", 7, seconds=10.0)
    (folder / "damaged.mp3").write_text("not a sound")
    mute = write_noise_clip(folder / "mute.mp4", 8, sound=False)
    noise = 0.1 * np.random.default_rng(0).standard_normal(8 * 16000).astype(np.float32)
    noise[3 * 16000 :] = 0
    write_clip(folder / "half.m4a", None, noise, sampling_rate=16000)
    paths = [clip_files[0], long, folder / "damaged.mp3", mute, folder / "half.m4a", clip_files[1]]
    return [LibraryFile(str(path), {"title": path.stem}) for path in paths]


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 1), (4, 3), (32, 2)])
def test_files_come_in_order_with_what_is_wrong(embedder, library, batch_size, num_workers):
    cutting = Cutting("audio", 4.0, 2.0)
    counts = []
    options = {"batch_size": batch_size, "num_workers": num_workers, "progress": lambda *pair: counts.append(pair)}
    done = list(embed_files(library, embedder, cutting, **options))
    assert [file.file for file in done] == library
    assert np.sum(counts, 0).tolist() == [1 + 4 + 1 + 1 + 3 + 1] * 2
    assert [len(file.places) for file in done] == [1, 4, 0, 0, 2, 1]
    assert [len(file.errors) for file in done] == [0, 0, 1, 1, 1, 0]
    assert "damaged.mp3" in done[2].errors[0]
    assert "mute.mp4" in done[3].errors[0]
    assert "half.m4a: silent from 4 to 8 s" in done[4].errors[0]
    assert done[1].places[0] == (0.0, 4.0)
    assert done[1].places[-1][1] == pytest.approx(10.0, abs=0.05)
    for place, embeds in zip(done[1].places, done[1].embeds, strict=True):
        start, end = place
        alone = embedder.model.get_audio_features(**embedder.processor(audio=library[1].path, start=start, end=end))
        torch.testing.assert_close(embeds, alone.segment_embeds[0])


def test_pictures_are_embedded_too(embedder, library):
    done = list(embed_files([library[0], library[3]], embedder, Cutting("video")))
    torch.testing.assert_close(done[1].embeds[0], embed_file(library[3].path, embedder, Cutting("video")).embeds[0])
    assert not done[0].errors


def test_no_more_is_read_ahead_than_a_batch_or_two(embedder, library, monkeypatch):
    read = []
    original = bulk_embedding._read
    monkeypatch.setattr(bulk_embedding, "_read", lambda part, *rest: read.append(part) or original(part, *rest))
    done = embed_files([library[0]] * 100, embedder, Cutting(), batch_size=4, num_workers=2)
    next(done)
    assert len(read) <= 4 + 2 * 4
    done.close()
    assert len(read) <= 4 + 2 * 4
