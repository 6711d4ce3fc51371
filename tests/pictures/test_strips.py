"""Pictures show what the tensors hold, and nothing else."""

import io
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from cmmixer_hf.media.feature_extraction_cmmixer import CMMixerFeatureExtractor
from cmmixer_hf.models.configuration_cmmixer import CMMixerConfig
from cmmixer_hf.models.masking import random_masking
from cmmixer_hf.models.modeling_cmmixer import CMMixerForPreTraining
from cmmixer_hf.pictures.loss_curves import curves
from cmmixer_hf.pictures.strips import (
    HIDDEN,
    SeparationPictures,
    draw_separation,
    enlarge,
    frames_to_rgb,
    jpeg_bytes,
    loudest,
    png_bytes,
    spectrograms_to_rgb,
    strip,
    three_mixtures,
)

FRAMES, SIZE, GAP = 8, 32, 2
TOKENS = FRAMES * (SIZE // 16) ** 2


@pytest.fixture(scope="module")
def extractor() -> CMMixerFeatureExtractor:
    return CMMixerFeatureExtractor(image_size=SIZE)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (FRAMES, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def stacks(extractor, frames) -> tuple[torch.Tensor, torch.Tensor]:
    sound = np.random.default_rng(1).normal(0, 0.1, 16000 * 6).astype(np.float32)
    features = extractor(videos=frames, audio=sound, sampling_rate=16000)
    return features["pixel_values"], features["audio_values"]


@pytest.fixture(scope="module", params=["solo", "duet"])
def model(request) -> CMMixerForPreTraining:
    torch.manual_seed(0)
    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    decoder = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_intermediate_size": 64}
    return CMMixerForPreTraining(CMMixerConfig(image_size=SIZE, decoder_type=request.param, **small, **decoder)).eval()


def cut(picture: np.ndarray) -> np.ndarray:
    """A strip back into its frames, (K, H, W, 3)."""
    return np.stack([picture[:, start : start + SIZE] for start in range(0, picture.shape[1], SIZE + GAP)])


def test_frames_come_back_as_they_went_in(extractor, frames, stacks):
    assert np.array_equal(frames_to_rgb(stacks[0][0], extractor), frames)


def test_frames_out_of_range_are_clipped(extractor):
    picture = frames_to_rgb(torch.tensor([-100.0, 100.0]).expand(1, 3, 1, 2), extractor)
    assert picture.dtype == np.uint8
    assert picture[0, 0].tolist() == [[0, 0, 0], [255, 255, 255]]


def test_silence_is_black_and_louder_is_brighter(extractor):
    silence = extractor(audio=np.zeros(16000 * 3, np.float32), sampling_rate=16000)["audio_values"][0]
    assert spectrograms_to_rgb(silence, extractor).max() <= 4
    assert spectrograms_to_rgb(silence, extractor, peak=1.0).max() <= 4
    ramp = torch.linspace(float(silence.min()), 1.0, 50).expand(1, 3, 1, 50)
    brightness = spectrograms_to_rgb(ramp, extractor, peak=1.0)[0, 0].astype(float) @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(brightness) > 0).all()


def test_one_click_does_not_darken_a_clip(extractor):
    values = torch.zeros(1, 3, 100, 100)
    calm = spectrograms_to_rgb(values, extractor)
    values[:, :, 50, 50] = 50.0
    assert loudest(values) == 0.0
    assert np.array_equal(spectrograms_to_rgb(values, extractor)[0, :50], calm[0, :50])


def test_strip_keeps_every_pixel_in_order(frames):
    picture = strip(frames, gap=GAP)
    assert picture.shape == (SIZE, FRAMES * SIZE + (FRAMES - 1) * GAP, 3)
    assert np.array_equal(cut(picture), frames)
    assert np.array_equal(strip(frames, gap=0), np.concatenate(list(frames), 1))


@pytest.mark.parametrize(("height", "factor"), [(SIZE - 1, 1), (SIZE, 1), (SIZE + 1, 2), (5 * SIZE, 5)])
def test_enlarging_makes_whole_pixels(frames, height, factor):
    picture = enlarge(frames, height)
    assert picture.shape == (FRAMES, factor * SIZE, factor * SIZE, 3)
    assert np.array_equal(picture[:, ::factor, ::factor], frames)
    assert np.array_equal(picture[:, factor - 1 :: factor, factor - 1 :: factor], frames)


def test_files_decode_to_the_picture(frames):
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png_bytes(frames[0])))), frames[0])
    small = Image.open(io.BytesIO(jpeg_bytes(frames[0], height=96)))
    assert (small.format, small.size) == ("JPEG", (96, 96))
    assert Image.open(io.BytesIO(jpeg_bytes(frames[0], height=8))).size == (SIZE, SIZE)


@pytest.mark.parametrize("loss_on", ["masked", "all"])
def test_reconstruction_shows_predictions_alone_and_pale_where_none_was_trained(model, extractor, stacks, loss_on):
    noise = torch.rand(1, TOKENS, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(1, FRAMES, 1, SIZE, SIZE)
    model.config.loss_on = loss_on
    pictures = draw_separation(model, *stacks, extractor=extractor, noise=noise, mixing_mask=mask)
    model.config.loss_on = "masked"
    logits = model(*stacks, noise=noise, mixing_mask=mask).video_logits
    predicted = frames_to_rgb(model.unpatchify(logits, stacks[0])[0], extractor)
    seen = random_masking(noise, model.config.mask_ratio)[2][0] == 0
    seen = seen.view(FRAMES, 2, 2).numpy().repeat(16, 1).repeat(16, 2)
    drawn = cut(pictures.video_reconstruction)
    assert np.array_equal(drawn[~seen], predicted[~seen])
    assert np.array_equal(drawn[seen], predicted[seen]) == (loss_on == "all")
    if loss_on == "masked":
        assert (drawn[seen] >= 192).all()
    visible, mixture = cut(pictures.visible), cut(pictures.mixture)
    assert np.array_equal(visible[seen], mixture[seen])
    assert (visible[~seen] == HIDDEN).all()


def test_mixture_shows_the_video_where_the_mask_is_one(model, extractor, stacks):
    mask = (torch.rand(1, FRAMES, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    pictures = draw_separation(model, *stacks, extractor=extractor, mixing_mask=mask)
    expected = np.where(mask[0, :, 0, :, :, None].numpy() == 1, cut(pictures.video), cut(pictures.audio))
    assert np.array_equal(cut(pictures.mixture), expected)


def test_same_draws_give_the_same_pictures_and_the_model_stays(model, extractor, stacks):
    draws = {"noise": torch.rand(1, TOKENS), "mixing_mask": torch.rand(1, FRAMES, 1, SIZE, SIZE)}
    first, second = (draw_separation(model, *stacks, extractor=extractor, **draws) for _ in range(2))
    for name in SeparationPictures.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_more_than_one_clip_is_refused(model, extractor, stacks):
    with pytest.raises(ValueError, match="one clip at a time, got a batch of 2"):
        draw_separation(model, *(stack.expand(2, -1, -1, -1, -1) for stack in stacks), extractor=extractor)


def test_three_mixtures_are_those_of_the_paper(extractor, stacks):
    video, audio = frames_to_rgb(stacks[0][0], extractor), spectrograms_to_rgb(stacks[1][0], extractor)
    first, second = (three_mixtures(*stacks, extractor, generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert list(first) == ["CutMix", "Pixel Mixup", "Mixup"]
    assert all(np.array_equal(first[title], second[title]) for title in first)
    for title in ("CutMix", "Pixel Mixup"):
        picture = cut(first[title])
        from_video, from_audio = (picture == video).all(-1), (picture == audio).all(-1)
        assert (from_video | from_audio).all()
        assert from_video.any()
        assert from_audio.any()
    low, high = np.minimum(video, audio), np.maximum(video, audio)
    assert ((low <= cut(first["Mixup"])) & (cut(first["Mixup"]) <= high)).all()


def history(steps: int) -> list[dict]:
    noise = np.random.default_rng(0).normal(0, 0.1, steps)
    return [{"step": step, "loss": 2 + noise[step], "video_loss": 1.0, "learning_rate": 1e-3} for step in range(steps)]


def test_curves_stand_in_a_page():
    svg = curves({"Stage <1>": history(50), "Stage 2": history(1)})
    root = ElementTree.fromstring(svg)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Stage <1>", "Stage 2", "loss", "video", "step"} <= set(words)
    assert "sound" not in words
    assert "currentColor" in svg
    assert "width" not in root.attrib
    assert not any("href" in name and not value.startswith("#") for part in root.iter() for name, value in part.items())
    assert svg == curves({"Stage <1>": history(50), "Stage 2": history(1)})


@pytest.mark.parametrize("rows", [[], [{"step": 0, "loss": float("nan")}], [{"step": 0, "learning_rate": 0.1}]])
def test_curves_without_a_number_are_an_empty_panel(rows):
    assert "Stage" in curves({"Stage": rows})


def test_curves_without_a_stage_are_refused():
    with pytest.raises(ValueError, match="at least one stage"):
        curves({})


@pytest.mark.parametrize("module", ["matplotlib", "PIL.Image"])
def test_a_missing_extra_is_named(monkeypatch, extractor, frames, stacks, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r'pip install "cmmixer_hf\[demo\]"'):
        spectrograms_to_rgb(stacks[1][0], extractor) if module == "matplotlib" else png_bytes(frames[0])
