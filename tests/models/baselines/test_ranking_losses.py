"""Ranking and structure: by definition, in order, and across processes."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from distributed import run_in_processes

from cmmixer_hf.models.baselines.ranking_losses import structure_loss, triplet_loss

TRACKS = torch.tensor([3, 5, 3, 9, 5, 7])


def clips() -> tuple[torch.Tensor, torch.Tensor]:
    """Six pairs."""
    drawn = torch.randn(2, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    video, audio = F.normalize(drawn, dim=-1)
    return video, audio


def triplets_by_definition(anchors, candidates, margin, count, tracks) -> float:
    """Loops: each anchor's farthest own candidate against its `count` nearest foreign ones."""
    total = 0.0
    for i, anchor in enumerate(anchors):
        scores = [(anchor @ candidate).item() for candidate in candidates]
        own = min(score for j, score in enumerate(scores) if tracks[i] == tracks[j])
        nearest = sorted((score for j, score in enumerate(scores) if tracks[i] != tracks[j]), reverse=True)[:count]
        total += sum(max(0.0, margin - own + score) for score in nearest)
    return total / (len(anchors) * count)


@pytest.mark.parametrize("track_id", [None, TRACKS])
@pytest.mark.parametrize(("top_share", "count"), [(0.01, 1), (0.4, 2), (0.8, 4)])
def test_triplets_are_the_worst_violations(track_id, top_share, count):
    video, audio = clips()
    tracks = torch.arange(6) if track_id is None else track_id
    loss = triplet_loss(video, audio, margin=0.2, top_share=top_share, track_id=track_id)
    assert loss.item() == pytest.approx(triplets_by_definition(video, audio, 0.2, count, tracks), rel=1e-9)


def test_right_pairs_lose_less_than_shuffled_ones():
    video, _ = clips()
    assert triplet_loss(video, video) < triplet_loss(video, video.roll(1, 0))


def test_collapse_costs_the_margin():
    alike = torch.ones(5, 4) / 2
    assert triplet_loss(alike, alike, margin=0.3).item() == pytest.approx(0.3)


def test_one_track_for_all_has_nothing_to_rank():
    video, audio = clips()
    video.requires_grad_()
    loss = triplet_loss(video, audio, track_id=torch.zeros(6, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert torch.equal(video.grad, torch.zeros_like(video))


def test_unpaired_batches_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(6, 8\).*\(2, 8\)"):
        triplet_loss(clips()[0], clips()[1][:2])


def structure_by_definition(features, embeddings) -> float:
    def cosine(stack, i, j):
        return F.cosine_similarity(stack[i], stack[j], dim=0)

    total = 0.0
    for i in range(len(features)):
        for j in range(len(features) - 1):
            before = cosine(features, i, j) - cosine(features, i, j + 1)
            after = cosine(embeddings, i, j) - cosine(embeddings, i, j + 1)
            total += ((after.sign() - before.sign()) * after).item()
    return total / (len(features) * (len(features) - 1))


def test_structure_is_the_size_of_disagreements():
    features, embeddings = clips()
    loss = structure_loss(3 * features, embeddings)
    assert loss.item() == pytest.approx(structure_by_definition(features, embeddings), rel=1e-9)
    assert loss > 0


def test_structure_forgives_what_keeps_the_order():
    features, _ = clips()
    rotation = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1)))[0]
    assert structure_loss(features, 5 * features @ rotation) == 0


def test_descending_restores_the_order():
    features, embeddings = clips()
    embeddings.requires_grad_()
    optimizer = torch.optim.Adam([embeddings], lr=0.05)
    first = structure_loss(features, embeddings).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss = structure_loss(features, embeddings)
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * first


def test_a_batch_of_one_has_no_structure():
    assert structure_loss(torch.randn(1, 4), torch.randn(1, 4)) == 0


@pytest.mark.parametrize("loss", [triplet_loss, structure_loss])
def test_half_precision_is_compared_in_single(loss):
    video, audio = (stack.to(torch.bfloat16) for stack in clips())
    expected = loss(video.float(), audio.float())
    assert loss(video, audio) == expected
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(video.float(), audio.float()) == expected


def loss_and_gradients(rows: slice) -> tuple[torch.Tensor, ...]:
    video, audio = (stack[rows].clone().requires_grad_() for stack in clips())
    loss = triplet_loss(video, audio, margin=0.5, top_share=0.4, track_id=TRACKS[rows])
    loss.backward()
    return loss.detach(), video.grad, audio.grad


def work_of_one_process(rank: int) -> tuple[torch.Tensor, ...]:
    return loss_and_gradients(slice(3 * rank, 3 * rank + 3))


def test_two_processes_are_one_process_with_the_whole_batch(tmp_path):
    parts = run_in_processes(work_of_one_process, Path(tmp_path))
    loss, video, audio = loss_and_gradients(slice(0, 6))
    torch.testing.assert_close(sum(part[0] for part in parts) / 2, loss)
    for place, whole in ((1, video), (2, audio)):  # DDP divides by the number of processes
        torch.testing.assert_close(torch.cat([part[place] for part in parts]) / 2, whole)
