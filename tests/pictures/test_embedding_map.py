"""The number beside a t-SNE picture says what is there."""

import pytest
import torch
from torch.nn.functional import normalize

from cmmixer_hf.pictures.embedding_map import centre_places, draw_maps, map_segments, neighbour_purity

CLIPS, SEGMENTS, SIZE = 30, 8, 64
KINDS = ["abc"[clip % 3] for clip in range(CLIPS)]


@pytest.fixture
def noise() -> torch.Tensor:
    return torch.randn(CLIPS, SEGMENTS, SIZE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("apart", [True, False])
def test_noise_is_as_pure_as_chance_and_kinds_are_pure(noise, apart):
    purity = neighbour_purity(normalize(noise, dim=-1), KINDS, apart=apart)
    assert purity.value == pytest.approx(purity.chance, abs=6)
    means = torch.eye(SIZE)[torch.tensor([ord(kind) - ord("a") for kind in KINDS])]
    assert neighbour_purity(normalize(0.1 * noise + 10 * means[:, None], dim=-1), KINDS, apart=apart).value == 100


def test_segments_of_one_clip_do_not_count_where_they_are_apart(noise):
    embeds = normalize(0.1 * noise + 10 * torch.randn(CLIPS, 1, SIZE), dim=-1)
    assert neighbour_purity(embeds, KINDS).value == 100
    apart = neighbour_purity(embeds, KINDS, apart=True)
    assert apart.value < 60


def test_places_hide_clips_until_their_mean_is_taken_away(noise):
    clip, place = torch.randn(CLIPS, 1, SIZE), 10 * torch.randn(1, SEGMENTS, SIZE)
    embeds = normalize(clip + place + 0.01 * noise, dim=-1)
    names = [str(number) for number in range(CLIPS)]
    assert neighbour_purity(embeds, names).value < 5
    assert neighbour_purity(centre_places(embeds), names).value > 90


def test_too_few_neighbours_are_refused(noise):
    with pytest.raises(ValueError, match="give more clips"):
        neighbour_purity(noise[:1], KINDS[:1], apart=True)


def test_a_map_has_a_point_for_each_segment_and_a_seed_repeats_it(noise):
    pytest.importorskip("sklearn")
    first, second = (map_segments(noise[:6], KINDS[:6], title="Sounds", seed=1) for _ in range(2))
    assert first.points.shape == (6 * SEGMENTS, 2)
    assert (first.points == second.points).all()
    assert first.kinds[:9] == ("a",) * 8 + ("b",)
    picture = draw_maps([first, second, first])
    assert picture.shape == (900, 900, 3)
    assert len({tuple(pixel) for pixel in picture.reshape(-1, 3)[::7].tolist()}) > 3
