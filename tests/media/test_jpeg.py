import io

import numpy as np
import pytest

from cmmixer_hf.media.jpeg import decode_pictures, encode_pictures
from cmmixer_hf.media.reading import Sampling, read_clip


def smooth(height, width, count=3):
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (count, 4, 4, 3)).astype(float)
    rows, columns = np.linspace(0, 3, height), np.linspace(0, 3, width)
    fine = [[np.interp(rows, range(4), coarse[k, :, 0, c])[:, None] for c in range(3)] for k in range(count)]
    return np.stack([np.stack([f + 20 * np.sin(columns) for f in k], -1) for k in fine]).astype(np.uint8)


def decibels(one, other):
    return 10 * np.log10(255**2 / max(1e-9, ((one.astype(float) - other) ** 2).mean()))


@pytest.mark.parametrize("size", [(64, 48), (33, 51), (1, 2), (256, 455)])
def test_pictures_survive_in_order_and_size(size):
    frames = smooth(*size)
    back = decode_pictures(encode_pictures(frames))
    assert back.shape == frames.shape
    assert back.dtype == np.uint8
    assert decibels(back, frames) > 38


def test_worse_quality_is_smaller_and_worse():
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    sizes, errors = [], []
    for quality in (1, 4, 12, 31):
        pictures = encode_pictures(frames, quality)
        sizes.append(sum(map(len, pictures)))
        errors.append(-decibels(decode_pictures(pictures), frames))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_others_read_them_too():
    image = pytest.importorskip("PIL.Image", reason="needs Pillow")
    frames = smooth(40, 60)
    for picture, frame in zip(encode_pictures(frames), frames, strict=True):
        opened = np.asarray(image.open(io.BytesIO(picture)).convert("RGB"))
        assert decibels(opened, frame) > 38


def test_real_frames_take_a_tenth_of_the_space_and_look_the_same(real_videos):
    frames = read_clip(real_videos / "natural" / "friday.mp4", Sampling(shorter_side=256), audio=False).frames
    pictures = encode_pictures(frames)
    assert sum(map(len, pictures)) < frames.nbytes / 10
    assert decibels(decode_pictures(pictures), frames) > 36


def test_damaged_pictures_and_impossible_qualities_are_refused():
    pictures = encode_pictures(smooth(32, 32))
    with pytest.raises(ValueError, match="prepare"):
        decode_pictures([pictures[0], b"no picture", pictures[2]])
    with pytest.raises(ValueError, match="got 95"):
        encode_pictures(smooth(32, 32), 95)
