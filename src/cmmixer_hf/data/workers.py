"""A function over many items in several processes, any of which may die: a decoder is native code that reads bad files.

`concurrent.futures` gives up all items when one process dies, and does not say on which item it did.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from typing import Any, Generic, TypeVar

from .prepared_clips import SourceError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

ITEMS_WORTH_A_PROCESS = 8  # a process takes seconds to start, as long as it takes to decode a few clips
LOOKAHEAD = 4  # items a process that may lie finished until those before them are
PYTHON_ERROR = 1  # exit code of a process that an exception ended


def map_in_processes(
    function: Callable[[_Item], _Result],
    items: Iterable[_Item],
    *,
    num_workers: int,
    died: Callable[[_Item, str], _Result],
    seconds_per_item: float = math.inf,
) -> Generator[_Result, None, None]:
    """`function` of every item, in order.

    Args:
        function: can be pickled, as can items and results.
        items: taken only a little ahead of the results, so that they may be many and large.
        num_workers: processes; 0 computes here, where a crash ends the program.
        died: makes the result of an item whose process died, from the item and the reason.
        seconds_per_item: after which a process is ended.

    Raises:
        RuntimeError: `function` raised an exception; its traceback was printed.
        SourceError: `num_workers` is below 0.
    """
    if num_workers < 0:
        raise SourceError(f"num_workers must be 0, which works in this process, or more, got {num_workers}")
    if num_workers == 0:
        yield from map(function, items)
        return
    workers = [_Worker(function, died, seconds_per_item) for _ in range(num_workers)]
    try:
        yield from _in_order(workers, enumerate(items))
    finally:
        for worker in workers:
            worker.stop()


def count_workers(items: int | None) -> int:
    """How many processes are worth starting for so many items, or, where it is `None`, for any number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if items is None:
        return cores
    return 0 if items < 2 * ITEMS_WORTH_A_PROCESS else min(cores, items // ITEMS_WORTH_A_PROCESS)


def _in_order(workers: list[_Worker[_Item, _Result]], numbered: Iterator[tuple[int, _Item]]) -> Iterator[_Result]:
    idle, busy = list(workers), dict[Any, _Worker[_Item, _Result]]()
    done: dict[int, _Result] = {}
    given = returned = 0
    while True:
        while idle and given - returned < LOOKAHEAD * len(workers) and (task := next(numbered, None)):
            worker = idle.pop()
            busy[worker.give(*task)] = worker
            given += 1
        if not busy:
            return
        for connection in _ready(busy):
            worker = busy.pop(connection)
            done[worker.number] = worker.take()
            idle.append(worker)
        while returned in done:
            yield done.pop(returned)
            returned += 1


def _ready(busy: dict[Any, _Worker[_Item, _Result]]) -> list[Any]:
    """Connections of the workers that answered, died or took too long."""
    deadline = min(worker.deadline for worker in busy.values())
    ready = wait(list(busy), None if deadline == math.inf else max(0.0, deadline - time.monotonic()))
    return ready or [connection for connection, worker in busy.items() if worker.deadline <= time.monotonic()]


class _Worker(Generic[_Item, _Result]):
    """A process that computes one item at a time, and another one in its place once it has died."""

    item: _Item
    number: int

    def __init__(self, function: Callable[[_Item], _Result], died: Callable[[_Item, str], _Result], seconds: float):
        self.function, self.died, self.seconds = function, died, seconds
        self.deadline = math.inf
        self.process: Any = None
        self.connection: Any = None

    def give(self, number: int, item: _Item) -> Connection:
        """Start on an item; the connection is where the answer will arrive."""
        if self.process is None or not self.process.is_alive():
            self._start()
        self.number, self.item, self.deadline = number, item, time.monotonic() + self.seconds
        self.connection.send(item)
        return self.connection

    def _start(self) -> None:
        context = worker_context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.function), daemon=True)
        self.process.start()
        theirs.close()  # the process holds the only other end, so that its death is noticed

    def take(self) -> _Result:
        """The result of the item."""
        late = self.deadline <= time.monotonic() and not self.connection.poll()
        if late:
            self.process.kill()
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            reason = self._bury()
        return self.died(self.item, f"took more than {self.seconds:g} s" if late else reason)

    def stop(self) -> None:
        """End the process, also while it computes."""
        if self.process is not None:
            self.process.kill()
            self.process.join()
            self.connection.close()

    def _bury(self) -> str:
        self.process.join()
        code, self.process = self.process.exitcode, None
        self.connection.close()
        if code == PYTHON_ERROR:
            raise RuntimeError("a process failed; its traceback is printed above")
        return f"ended the process that had it ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


def _serve(connection: Connection, function: Callable[[_Item], _Result]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    end_with_parent()
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))


def end_with_parent() -> None:
    """From now on this process ends once its parent is gone, be it by kill -9 in the middle of an item."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(PYTHON_ERROR)


def worker_context() -> ForkServerContext | SpawnContext:
    """A server that has imported this package once forks all processes, each in milliseconds; Windows has none."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([f"{__package__}.shards"])  # what a row needs, without torch
    return context
