"""Stacks ↔ tokens, and positions."""

import pytest
import torch

from cmmixer_hf.models.patching import patchify, sincos_positions, unpatchify


@pytest.mark.parametrize("size", [(32, 32), (32, 64), (48, 16)])
@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_unpatchify_undoes_patchify(size, frames, channels):
    stack = torch.randn(2, frames, channels, *size)
    patches = patchify(stack, 16)
    assert patches.shape == (2, frames * size[0] * size[1] // 256, 256 * channels)
    assert torch.equal(unpatchify(patches, 16, frames=frames, size=size), stack)


def test_tokens_go_frame_by_frame_and_row_by_row():
    stack = torch.zeros(1, 2, 3, 32, 48)
    stack[0, 1, :, 16:, 16:32] = 1  # second frame, second row, second column
    assert patchify(stack, 16).amax(-1)[0].nonzero().item() == 6 + 3 + 1


def test_a_patch_is_what_a_strided_convolution_sees():
    stack = torch.randn(2, 1, 3, 32, 48)
    convolution = torch.nn.Conv2d(3, 8, 16, stride=16)
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)
    expected = convolution(stack[:, 0]).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patchify(stack, 16) @ weight.T + convolution.bias, expected)


def test_no_two_positions_are_alike_and_all_have_one_length():
    positions = sincos_positions(3, (2, 4), 64)
    assert positions.shape == (24, 64)
    assert len(positions.unique(dim=0)) == 24
    torch.testing.assert_close(positions.square().sum(1), torch.full((24,), 32.0))


def test_frames_side_by_side_are_one_wide_frame():
    strip = sincos_positions(1, (2, 12), 32).view(2, 3, 4, 32)
    assert torch.equal(sincos_positions(3, (2, 4), 32).view(3, 2, 4, 32), strip.transpose(0, 1))


def test_positions_are_those_of_mae():
    torch.testing.assert_close(sincos_positions(1, (4, 4), 32), _mae_positions(4, 32))


def _mae_positions(side: int, dim: int) -> torch.Tensor:
    """MAE's definition, written out: column first, then row; sines, then cosines; 10000^(−4i/dim)."""
    rows = []
    for row in range(side):
        for column in range(side):
            angles = [place / 10000 ** (4 * i / dim) for place in (column, row) for i in range(dim // 4)]
            halves = [torch.tensor(angles[: dim // 4]), torch.tensor(angles[dim // 4 :])]
            rows.append(torch.cat([wave(half) for half in halves for wave in (torch.sin, torch.cos)]))
    return torch.stack(rows)
