"""Run functions in processes of their own, alone or as a gloo group of this machine, and collect what they return.

The processes are forked from a server that has imported the package once, so that one starts in a moment.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cmmixer_hf.training.loop"])


def run_in_processes(function: Callable[[int], Any], folder: Path, *, world_size: int = 2) -> list[Any]:
    """`function(rank)` in each process of a group; their results in the order of the ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    processes = [CONTEXT.Process(target=_run, args=(rank, function, folder, world_size)) for rank in range(world_size)]
    for process in processes:
        process.start()
    codes = [wait_for(process) for process in processes]
    assert codes == [0] * world_size, f"exit codes {codes}"
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


def run_alone(function: Callable[..., Any], *arguments: Any) -> int:
    """`function(*arguments)` in a process of its own; its exit code, or minus the signal that killed it."""
    process = CONTEXT.Process(target=_run_alone, args=(function, arguments))
    process.start()
    return wait_for(process)


def kills_at_every_touch(folder: Path, function: Callable[..., Any], *arguments: Any) -> Iterator[int]:
    """Kill `function(*arguments)` before its first touch of anything in `folder`, then before its second, and so on.

    A touch is what Python audits: a file opened, a folder listed, something made, renamed or removed. Yields how often
    it was killed, after each time; ends with the call that is over before it is to be killed.
    """
    for number in itertools.count(1):
        code = run_alone(_touch, folder, number, function, arguments)
        if code == 0:
            return
        assert code == -signal.SIGKILL, f"exit code {code}"
        yield number


def _touch(folder: Path, deadly: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    touches = itertools.count(1)

    def count(event: str, values: tuple[Any, ...]) -> None:
        inside = any(str(value).startswith(str(folder)) for value in values)
        if inside and event.startswith(("open", "os.", "shutil.")) and next(touches) == deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    function(*arguments)


def wait_for(process: Any) -> int:
    process.join()
    return process.exitcode


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail("it never happened")


def is_running(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rpartition(")")[2].split()[0] != "Z"


def _run_alone(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    function(*arguments)


def _run(rank: int, function: Callable[[int], Any], folder: Path, world_size: int) -> None:
    torch.set_num_threads(1)
    ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world_size)}
    os.environ.update(ranks, MASTER_ADDR="127.0.0.1", LOCAL_WORLD_SIZE=str(world_size))  # where accelerate looks
    dist.init_process_group("gloo", f"file://{folder}/rendezvous", rank=rank, world_size=world_size)
    torch.save(function(rank), folder / f"{rank}.pt")
    dist.destroy_process_group()
