"""The retriever in two processes under DDP: loss and gradients are those of one process with the whole batch."""

import torch
from distributed import run_in_processes
from torch.nn.parallel import DistributedDataParallel

from cmmixer_hf import CMMixerConfig, CMMixerForRetrieval

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "patch_size": 8}
CHUNKS = (None, 1)


def gradients(rows: slice, *, chunk: int | None, parallel: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of these rows of a batch of four, two of which share a track."""
    torch.manual_seed(0)
    model = CMMixerForRetrieval(CMMixerConfig(**SIZES, embed_chunk_size=chunk, learnable_temperature=True)).double()
    video, audio = torch.randn(2, 4, 2, 3, 16, 16, dtype=torch.float64)
    forward = DistributedDataParallel(model) if parallel else model
    tracks = torch.tensor([1, 2, 3, 1])
    loss = forward(pixel_values=video[rows], audio_values=audio[rows], track_id=tracks[rows]).loss
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


def work_of_one_process(rank: int) -> list:
    rows = slice(2 * rank, 2 * rank + 2)
    return [gradients(rows, chunk=chunk, parallel=True) for chunk in CHUNKS]


def test_two_processes_train_like_one(tmp_path):
    first, second = run_in_processes(work_of_one_process, tmp_path)
    loss, expected = gradients(slice(0, 4), chunk=None, parallel=False)
    for (loss_0, gradients_0), (loss_1, gradients_1) in zip(first, second, strict=True):
        torch.testing.assert_close((loss_0 + loss_1) / 2, loss, atol=1e-6, rtol=0)
        torch.testing.assert_close(gradients_0, gradients_1)
        torch.testing.assert_close(gradients_0, expected, atol=1e-6, rtol=0)
