"""Adding a sound of a class brings more of it, subtracting one less, where embeddings know the class."""

import pytest
import torch
from torch.nn.functional import normalize

from cmmixer_hf import CMMixerFeatureExtractor
from cmmixer_hf.data.batches import unpack_frames
from cmmixer_hf.demo.world import World, make_row
from cmmixer_hf.evaluation.retrieval import ClipEmbeddings
from cmmixer_hf.media.reading import Sampling
from cmmixer_hf.pictures.bent_queries import bend_query, bending_effects, draw_bent_queries

CLASSES = ["bell", "drum", "harp"] * 10


@pytest.fixture
def embeddings() -> ClipEmbeddings:
    """Three classes and much else."""
    generator = torch.Generator().manual_seed(0)
    kind = torch.eye(32)[torch.tensor([CLASSES.index(name) for name in CLASSES])][:, None]
    video, audio = (normalize(kind + 0.3 * torch.randn(30, 2, 32, generator=generator), dim=-1) for _ in range(2))
    return ClipEmbeddings(video, audio)


def test_the_three_clips_of_a_query_are_not_found(embeddings):
    plain, plus, minus = bend_query(embeddings, CLASSES, 4)
    assert (plain.lent, plus.lent, minus.lent) == (4, 5, 7)
    for query in (plain, plus, minus):
        assert len(set(query.found)) == 10
        assert not {4, 5, 7} & set(query.found)
        assert query.counts["drum"] == sum(CLASSES[place] == "drum" for place in query.found)
    assert plus.share("harp") == 10 * plus.counts["harp"]


def test_bending_moves_the_share_of_the_lent_class(embeddings):
    asked = [bend_query(embeddings, CLASSES, query) for query in range(30)]
    effects = bending_effects(asked, CLASSES)
    assert effects["plus"][1] > effects["plus"][0] + 10
    assert effects["minus"][1] < effects["minus"][0] - 10


@pytest.mark.parametrize("classes", [["a"] * 30, ["a"] + ["b"] * 29, ["a", "b"] * 6])
def test_clips_that_do_not_suffice_are_refused(embeddings, classes):
    few = ClipEmbeddings(embeddings.video[: len(classes)], embeddings.audio[: len(classes)])
    with pytest.raises(ValueError, match="give more clips"):
        bend_query(few, classes, 0)


def test_a_picture_has_a_row_a_query(embeddings):
    extractor = CMMixerFeatureExtractor(image_size=32, num_frames=2, window_seconds=1.0)
    world = World(0, Sampling(num_frames=2, window_seconds=1.0, shorter_side=32), duration=4.0)
    rows = [make_row(world, number) for number in range(3)] * 10
    asked = bend_query(embeddings, CLASSES, 0)
    one, three = (draw_bent_queries(asked[:count], rows, CLASSES, extractor) for count in (1, 3))
    assert abs(three.shape[0] - 3 * one.shape[0]) <= 16
    assert (three[: len(one)] == one).all()
    frame = unpack_frames(rows[0]).numpy()[0]
    assert any((one[top : top + 32, :32] == frame).all() for top in range(len(one) - 32))
