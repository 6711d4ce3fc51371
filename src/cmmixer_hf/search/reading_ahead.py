"""Read several files at once, in threads, while earlier ones are processed."""

from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from queue import Full, Queue
from threading import Event, Lock, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE = 0.1  # seconds after which a thread that waits for room checks whether it is still needed


@dataclass(frozen=True)
class _Ended:
    """A thread has nothing more to read, or failed."""

    error: BaseException | None = None


class ReadAhead(Generic[Item, Result]):
    """What comes of reading items, each by one of several threads, in the order in which it is ready.

    Args:
        read: gives the results of an item, one after the other.
        items: are taken when a thread is free.
        num_threads: that read, at least one.
        room: results that may wait; the threads pause when it is full.
    """

    def __init__(
        self, read: Callable[[Item], Iterable[Result]], items: Iterable[Item], *, num_threads: int, room: int
    ) -> None:
        self.read, self._todo, self._lock, self._stop = read, iter(items), Lock(), Event()
        self._waiting: Queue[Result | _Ended] = Queue(room)
        self._threads = [Thread(target=self._work, daemon=True) for _ in range(max(1, num_threads))]

    def results(self) -> Generator[Result]:
        """The results; what a thread raises is raised here. Closing it, as Ctrl-C does, leaves the rest unread."""
        running = len(self._threads)
        try:
            for thread in self._threads:
                thread.start()
            while running:
                result = self._waiting.get()
                if not isinstance(result, _Ended):
                    yield result
                elif result.error:
                    raise result.error
                else:
                    running -= 1
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        try:
            while (item := self._next()) is not None:
                for result in self.read(item):
                    self._hand_over(result)
                    if self._stop.is_set():
                        return
            self._hand_over(_Ended())
        except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
            self._hand_over(_Ended(error))

    def _next(self) -> Item | None:
        with self._lock:
            return None if self._stop.is_set() else next(self._todo, None)

    def _hand_over(self, result: Result | _Ended) -> None:
        while not self._stop.is_set():
            with suppress(Full):
                self._waiting.put(result, timeout=PATIENCE)
                return
