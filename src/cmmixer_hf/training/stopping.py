"""Stopping a run so that it can be resumed: SIGTERM, which schedulers send, and Ctrl-C wait for the end of a step."""

import signal
import socket
import sys
import threading
from contextlib import ExitStack
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
ANSWER = (
    "\nstopping after this step and a checkpoint, from which the same command goes on; Ctrl-C again stops at once, and "
    "loses what came after the checkpoint before"
)


class TrainingStoppedError(SystemExit):
    """A signal ended the run after a checkpoint; uncaught, it ends the program as the signal would: 143 or 130.

    Args:
        signal_number: SIGTERM or SIGINT.
    """

    def __init__(self, signal_number: int):
        super().__init__(128 + signal_number)


class StopSignals:
    """Within the block, the first signal is noted in `received` instead of ending the program; Ctrl-C twice ends it.

    It is answered at once, by a thread: a step may spend minutes in one call, while Python handles no signal. Only the
    main thread can listen to signals; in another one nothing changes.

    >>> with StopSignals() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.received == signal.SIGTERM
    True
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}
        self._at_exit = ExitStack()

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._answer_at_once()
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._at_exit.close()

    def _answer_at_once(self) -> None:
        receiver, sender = socket.socketpair()
        sender.setblocking(False)
        answering = threading.Thread(target=_answer, args=(receiver,), daemon=True)
        answering.start()
        before = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        # Called in reverse: Python stops writing to its socket, 0 asks the thread to end, and it is joined.
        self._at_exit.callback(receiver.close)
        self._at_exit.callback(sender.close)
        self._at_exit.callback(answering.join)
        self._at_exit.callback(sender.send, b"\0")
        self._at_exit.callback(signal.set_wakeup_fd, before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def _answer(numbers: socket.socket) -> None:
    """Print the answer to the first signal of those whose numbers come in; 0 is the last."""
    asked = False
    while number := numbers.recv(1)[0]:
        if number in SIGNALS and not asked:
            print(ANSWER, file=sys.stderr, flush=True)
            asked = True
