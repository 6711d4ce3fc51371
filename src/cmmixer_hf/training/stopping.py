"""Stopping a run where it can go on: SIGTERM, which a scheduler sends, and Ctrl-C wait for the end of a step."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class TrainingStoppedError(SystemExit):
    """A signal ended the run after a checkpoint; uncaught, it ends the program as the signal would: 143 or 130.

    Args:
        signal_number: SIGTERM or SIGINT.
    """

    def __init__(self, signal_number: int):
        super().__init__(128 + signal_number)


class StopSignals:
    """Within the block, the first signal is noted in `received` instead of ending the program; Ctrl-C twice ends it.

    Only the main thread can listen to signals; in another one nothing changes.

    >>> with StopSignals() as stop:
    ...     os.kill(os.getpid(), signal.SIGTERM)
    ...     stop.received == signal.SIGTERM
    True
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number
        # print() must not be called here: the signal may have come in the middle of another print().
        os.write(2, b"\nstopping after this step and a checkpoint\n")
