"""Eq. 1: what the three mixers draw, and what their mixture is."""

import inspect

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cmmixer_hf.models.mixing import MIXERS, _cover, _place_boxes, _uniform, check_mixer, cutmix_mask, draw_mask, mix

ROOM = (2, 4, (24, 40))  # batch, frames, (height, width)
# E[(a − a²/4)²] with a² uniform in (0, 1): the area of one box of side a around a uniform centre, cut at the border.
CLIPPED_BOX_AREA = 1 / 2 - 1 / 5 + 1 / 48


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_mean(samples: torch.Tensor, expected: float) -> None:
    """The mean of independent samples lies within four of its own standard errors."""
    standard_error = samples.std() / len(samples) ** 0.5
    assert abs(samples.mean() - expected) < 4 * standard_error + 1e-6


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("level", ["frame", "video"])
def test_same_generator_gives_the_same_mask_and_another_seed_another(mixer, level):
    first, again, other = (draw_mask(mixer, *ROOM, level=level, generator=generator(seed)) for seed in (1, 1, 2))
    assert first.shape == (2, 4, 1, 24, 40)
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("mixer", MIXERS)
def test_a_mask_is_drawn_for_each_frame_or_once_for_a_video(mixer):
    of_frames = draw_mask(mixer, *ROOM, generator=generator())
    of_videos = draw_mask(mixer, *ROOM, level="video", generator=generator())
    assert not torch.equal(of_frames[:, 0], of_frames[:, 1])
    assert torch.equal(of_videos, of_videos[:, :1].expand_as(of_videos))
    assert not torch.equal(of_videos[0], of_videos[1])


@pytest.mark.parametrize("mixer", ["cutmix", "pixel"])
def test_cutmix_and_pixel_masks_hold_zeros_and_ones(mixer):
    assert draw_mask(mixer, *ROOM, generator=generator()).unique().tolist() == [0, 1]


def test_mixup_is_one_number_a_frame():
    mask = draw_mask("mixup", *ROOM, generator=generator()).flatten(2)
    assert torch.equal(mask.amax(-1), mask.amin(-1))
    assert len(mask[..., 0].unique()) == 8


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixing_a_stack_with_itself_changes_nothing(mixer):
    stack = torch.randn(2, 4, 3, 24, 40, generator=generator())
    torch.testing.assert_close(mix(stack, stack, draw_mask(mixer, *ROOM, generator=generator())), stack)


def test_mask_one_shows_the_video_and_zero_the_audio():
    video, audio = torch.ones(1, 1, 3, 4, 4), torch.full((1, 1, 3, 4, 4), -1.0)
    mask = torch.zeros(1, 1, 1, 4, 4)
    mask[..., :2, :] = 1
    assert torch.equal(mix(video, audio, mask), (2 * mask - 1).expand(1, 1, 3, 4, 4))


def test_mixing_different_shapes_names_both():
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 4, 4\).*\(1, 1, 3, 4, 4\)"):
        mix(torch.ones(1, 2, 3, 4, 4), torch.ones(1, 1, 3, 4, 4), torch.ones(1, 1, 1, 4, 4))
    with pytest.raises(ValueError, match=r"mask of shape \(1, 2, 1, 4, 4\), got \(1, 2, 3, 4, 4\)"):
        mix(torch.ones(1, 2, 3, 4, 4), torch.ones(1, 2, 3, 4, 4), torch.ones(1, 2, 3, 4, 4))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_mixups_shares_are_spread_as_beta_says(alpha):
    shares = draw_mask("mixup", 4096, 2, (1, 1), alpha=alpha, generator=generator()).flatten()
    assert_mean(shares, 0.5)
    assert_mean((shares - 0.5).square(), 1 / (4 * (2 * alpha + 1)))


def test_one_clipped_box_covers_what_theory_says():
    mask = cutmix_mask(64, 64, (32, 48), direction="video_in_box", generator=generator())
    assert_mean(mask.flatten(2).mean(-1).flatten(), CLIPPED_BOX_AREA)


@pytest.mark.parametrize("mixer", MIXERS)
def test_each_modality_shows_half_of_the_time(mixer):
    mask = draw_mask(mixer, 1024, 2, (16, 16), generator=generator())
    assert_mean(mask.flatten(1).mean(-1), 0.5)


def test_the_direction_is_drawn_for_a_sample_not_for_a_frame():
    drawn = cutmix_mask(32, 4, (16, 16), generator=generator())
    boxes = cutmix_mask(32, 4, (16, 16), direction="video_in_box", generator=generator())
    flipped = (drawn != boxes).flatten(1).float().mean(1)
    assert set(flipped.tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("num_boxes", [2, 4])
def test_boxes_never_overlap(num_boxes):
    side = (torch.rand(512, 1, generator=generator()) / num_boxes).sqrt()

    def draw(*shape: int) -> torch.Tensor:
        return _uniform(*shape, generator=generator(7 + shape[1]), device=None)

    boxes = _place_boxes(side, (32, 32), num_boxes=num_boxes, draw=draw)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(-1).sum(-1)
    assert torch.equal(_cover(boxes, (32, 32)).flatten(1).sum(1), areas)
    assert boxes.shape == (512, num_boxes, 4)


@pytest.mark.parametrize("num_boxes", [2, 4])
def test_more_boxes_are_smaller_and_more(num_boxes):
    mask = cutmix_mask(64, 8, (32, 32), num_boxes=num_boxes, direction="video_in_box", generator=generator())
    edges_in_a_row = mask.diff(dim=-1).abs().sum(-1).amax((-1, -2))
    assert edges_in_a_row.max() > 2  # two boxes side by side
    assert 0.25 < mask.mean() < 0.5


def test_pixel_mixup_shows_the_video_with_its_probability():
    assert_mean(draw_mask("pixel", 1, 1, (128, 128), probability=0.2, generator=generator()).flatten(), 0.2)


@pytest.mark.parametrize("mixer", MIXERS)
def test_no_shape_depends_on_what_is_drawn(mixer):
    options = {"num_boxes": 3} if mixer == "cutmix" else {}
    with FakeTensorMode():
        assert draw_mask(mixer, *ROOM, **options).shape == (2, 4, 1, 24, 40)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_generator_gives_the_same_mask_on_a_gpu(mixer):
    on_gpu = draw_mask(mixer, *ROOM, generator=generator(), device="cuda")
    assert on_gpu.is_cuda
    assert torch.equal(on_gpu.cpu(), draw_mask(mixer, *ROOM, generator=generator()))


@pytest.mark.parametrize("mixer", MIXERS)
def test_mixers_share_their_first_arguments(mixer):
    names = list(inspect.signature(MIXERS[mixer]).parameters)
    assert names[:3] == ["batch", "frames", "size"]
    assert {"generator", "device"} <= set(names)


@pytest.mark.parametrize(
    ("mixer", "options", "message"),
    [
        ("cutout", {}, "'cutmix', 'pixel', 'mixup'.*'cutout'"),
        ("cutmix", {"boxes": 2}, "'direction', 'level', 'num_boxes'.*'boxes'"),
        ("pixel", {"num_boxes": 2}, "'level', 'probability'.*'num_boxes'"),
        ("cutmix", {"direction": "left"}, "'random', 'video_in_box'.*'left'"),
        ("cutmix", {"num_boxes": 0}, "at least 1, got 0"),
        ("mixup", {"alpha": 0.0}, "alpha must be positive, got 0.0"),
        ("pixel", {"probability": 1.5}, r"\[0, 1\], got 1.5"),
        ("mixup", {"level": "clip"}, "'frame', 'video'.*'clip'"),
    ],
)
def test_impossible_options_are_refused_with_what_is_possible(mixer, options, message):
    with pytest.raises(ValueError, match=message):
        check_mixer(mixer, options)
