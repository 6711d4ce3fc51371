"""What a verb shows of its work: progress bars, redrawn on a terminal and a line every ten seconds in a log; errors."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from tqdm.auto import tqdm

SECONDS_BETWEEN_LINES = 10.0
REASONS_SHOWN = 20


class Progress(tqdm):
    """tqdm's bar; where standard error is neither a terminal nor a notebook, it does not flood what is written.

    Args:
        arguments, options: as `tqdm` takes them.
    """

    def __init__(self, *arguments: Any, **options: Any):
        if _is_log():
            options = {"mininterval": SECONDS_BETWEEN_LINES, "maxinterval": SECONDS_BETWEEN_LINES} | options
        super().__init__(*arguments, **options)

    @staticmethod
    def status_printer(file: TextIO) -> Callable[[str], None]:
        """What writes the state of the bar: over the one before on a terminal, as a line of its own in a log."""
        if not _is_log():
            return tqdm.status_printer(file)
        lines = 0

        def write(state: str) -> None:
            nonlocal lines
            if state:
                file.write(f"\n{state}" if lines else state)
                file.flush()
                lines += 1

        return write


def close_bars() -> None:
    """End the lines of bars that an error has left open, so that its message stands on one of its own."""
    for bar in list(Progress._instances):
        bar.close()


def _is_log() -> bool:
    """Whether nobody sees a bar move: standard error is a file or a pipe, and no notebook draws it."""
    return not sys.stderr.isatty() and "ipykernel" not in sys.modules


def print_left_out(reasons: Sequence[str], table: Path) -> None:
    """Print why files were left out: the first [`REASONS_SHOWN`] reasons, and in which table all of them are."""
    for reason in reasons[:REASONS_SHOWN]:
        print(f"left out: {reason}")
    if len(reasons) > REASONS_SHOWN:
        print(f"left out: {len(reasons) - REASONS_SHOWN} more, all of them in {table}")
