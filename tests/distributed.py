"""Run a function in several gloo processes of this machine and collect what each returns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing


def run_in_processes(function: Callable[[int], Any], folder: Path, *, world_size: int = 2) -> list[Any]:
    """`function(rank)` in each process of a group; their results in the order of the ranks."""
    torch.multiprocessing.spawn(_run, (function, folder, world_size), nprocs=world_size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def _run(rank: int, function: Callable[[int], Any], folder: Path, world_size: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    torch.save(function(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
