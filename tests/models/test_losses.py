"""Reconstruction and InfoNCE: by hand, by definition, and across processes."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from distributed import run_in_processes

from cmmixer_hf.models.losses import gather, info_nce, normalise_patches, reconstruction_loss

TRACKS = torch.tensor([3, 5, 3, 9])
CASES = [
    {"direction": direction, "track_id": track_id}
    for direction in ("symmetric", "video_to_audio")
    for track_id in (None, TRACKS)
]


def embeddings(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Four pairs of clips of three segments."""
    drawn = torch.randn(2, 4, 3, 8, dtype=dtype, generator=torch.Generator().manual_seed(0))
    video, audio = F.normalize(drawn, dim=-1)
    return video, audio


def by_definition(video, audio, temperature, track_id) -> torch.Tensor:
    """Eq. 2 as loops: each (i, l) against all (j, l′); the mean of the log-probabilities of its positives."""
    batch, segments, _ = video.shape
    places = [(i, l) for i in range(batch) for l in range(segments)]
    total = 0.0
    for i, l in places:
        scores = {place: (video[i, l] @ audio[place]).item() / temperature for place in places}
        normaliser = math.log(sum(math.exp(score) for score in scores.values()))
        positives = [
            (j, l)
            for j in range(batch)
            if (track_id is None and i == j) or (track_id is not None and track_id[i] == track_id[j])
        ]
        total -= sum(scores[place] - normaliser for place in positives) / len(positives)
    return total / len(places)


@pytest.mark.parametrize("track_id", [None, TRACKS])
@pytest.mark.parametrize("temperature", [0.07, 0.3])
def test_info_nce_is_eq_2(track_id, temperature):
    video, audio = embeddings()
    forth = by_definition(video, audio, temperature, track_id)
    back = by_definition(audio, video, temperature, track_id)
    printed = info_nce(video, audio, temperature, track_id=track_id, direction="video_to_audio")
    assert printed.item() == pytest.approx(forth, rel=1e-9)
    assert info_nce(video, audio, temperature, track_id=track_id).item() == pytest.approx((forth + back) / 2, rel=1e-9)


def test_equal_embeddings_score_chance():
    alike = torch.ones(4, 3, 8) / 8**0.5
    assert info_nce(alike, alike, 0.3).item() == pytest.approx(math.log(12), rel=1e-6)


def test_distinct_track_ids_are_no_track_ids():
    video, audio = embeddings()
    assert info_nce(video, audio, 0.3, track_id=torch.arange(4)) == info_nce(video, audio, 0.3)


@pytest.mark.parametrize(("track_id", "sign"), [(None, 1), (TRACKS, -1)])
def test_a_shared_track_attracts_and_a_foreign_one_repels(track_id, sign):
    video = torch.eye(12).view(4, 3, 12)
    audio = video.clone().requires_grad_()
    info_nce(video, audio, 0.3, track_id=track_id, direction="video_to_audio").backward()
    towards_the_other_video = (audio.grad[2] * video[0]).sum(-1)
    assert torch.equal(towards_the_other_video.sign(), torch.full((3,), float(sign)))


def test_half_precision_is_compared_in_single():
    video, audio = embeddings(torch.bfloat16)
    assert info_nce(video, audio, 0.3).dtype == torch.float32
    expected = info_nce(video.float(), audio.float(), 0.3)
    assert info_nce(video, audio, 0.3) == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert info_nce(video.float(), audio.float(), 0.3) == expected


def test_unpaired_batches_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(4, 3, 8\).*\(2, 3, 8\)"):
        info_nce(torch.ones(4, 3, 8), torch.ones(2, 3, 8), 0.3)


def losses_and_gradients(rows: slice) -> list[tuple[torch.Tensor, ...]]:
    """For each case: loss and gradients of these rows' embeddings and of the temperature."""
    results = []
    for case in CASES:
        video, audio = (stack[rows].clone().requires_grad_() for stack in embeddings())
        temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        track_id = None if case["track_id"] is None else case["track_id"][rows]
        loss = info_nce(video, audio, temperature, track_id=track_id, direction=case["direction"])
        loss.backward()
        results.append((loss.detach(), video.grad, audio.grad, temperature.grad))
    return results


def refusal_of_unequal_batches(rank: int) -> str:
    video, audio = (stack[: 1 + rank] for stack in embeddings())
    try:
        info_nce(video, audio, 0.3)
    except ValueError as error:
        return str(error)
    return ""


def work_of_one_process(rank: int) -> tuple:
    gathered = gather(torch.full((2, 1), float(rank)))
    return losses_and_gradients(slice(2 * rank, 2 * rank + 2)), refusal_of_unequal_batches(rank), gathered


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> list:
    return run_in_processes(work_of_one_process, Path(tmp_path_factory.mktemp("gloo")))


@pytest.mark.parametrize("case", range(len(CASES)))
def test_two_processes_are_one_process_with_the_whole_batch(two_processes, case):
    loss, video, audio, temperature = losses_and_gradients(slice(0, 4))[case]
    parts = [losses[case] for losses, _, _ in two_processes]
    mean_loss, mean_temperature = (sum(part[i] for part in parts) / 2 for i in (0, 3))
    halves = [torch.cat([part[i] for part in parts]) / 2 for i in (1, 2)]  # DDP divides by the number of processes
    for got, expected in zip((mean_loss, mean_temperature, *halves), (loss, temperature, video, audio), strict=True):
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_rows_are_gathered_in_the_order_of_the_ranks(two_processes):
    for _, _, gathered in two_processes:
        assert gathered.flatten().tolist() == [0, 0, 1, 1]


def test_unequal_batches_are_refused_by_every_process_with_all_sizes(two_processes):
    for _, refusal, _ in two_processes:
        assert "[1, 2] clips" in refusal


def test_only_masked_patches_count():
    prediction, target = torch.randn(2, 3, 6, 12)[:2]
    mask = torch.tensor([[0.0, 1, 1, 0, 0, 1]]).expand(3, -1)
    changed = torch.where(mask[..., None].bool(), prediction, 99.0)
    loss = reconstruction_loss(prediction, target, mask)
    assert loss == reconstruction_loss(changed, target, mask)
    torch.testing.assert_close(loss, (prediction - target)[mask.bool()].square().mean())
    torch.testing.assert_close(reconstruction_loss(prediction, target), (prediction - target).square().mean())


def test_norm_pix_forgives_scale_and_shift_of_the_target():
    prediction, target = torch.randn(2, 3, 6, 48)[:2]
    loss = reconstruction_loss(prediction, target, norm_pix=True)
    torch.testing.assert_close(reconstruction_loss(prediction, 5 * target - 2, norm_pix=True), loss)
    assert reconstruction_loss(normalise_patches(target)[0], target, norm_pix=True) < 1e-10


def test_normalising_can_be_undone():
    patches = 3 * torch.randn(2, 6, 48) + 1
    normal, mean, deviation = normalise_patches(patches)
    torch.testing.assert_close(normal.mean(-1), torch.zeros(2, 6), atol=1e-5, rtol=0)
    torch.testing.assert_close(normal.var(-1), torch.ones(2, 6), atol=1e-4, rtol=0)
    torch.testing.assert_close(normal * deviation + mean, patches)


@pytest.mark.parametrize("norm_pix", [False, True])
def test_half_precision_errors_are_taken_in_single(norm_pix):
    prediction, target = torch.randn(2, 3, 6, 48, dtype=torch.bfloat16)[:2]
    loss = reconstruction_loss(prediction, target, norm_pix=norm_pix)
    assert loss == reconstruction_loss(prediction.float(), target.float(), norm_pix=norm_pix)
