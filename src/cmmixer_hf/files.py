"""Files that are whole or absent, locks, CSV tables, digests of files, and aligned tables of text."""

import csv
import errno
import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

_logger = logging.getLogger(__name__)
# A spreadsheet evaluates a cell that begins with one of these as a formula, unless it is a number.
FORMULA = re.compile(r"'*(?!-?\d+(\.\d+)?$)[=+\-@\t\r]")


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path that replaces `path` when the block succeeds and is deleted when it fails.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
    >>> with atomic_file(target) as partial:
    ...     _ = partial.write_text("1 2 3")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('1 2 3', 1)
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Jobs on several machines, or in containers, may have equal process ids and write the same file at once.
    partial = target.with_name(f".{target.stem}.partial-{secrets.token_hex(8)}{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    except OSError as error:
        if error.filename == os.fspath(partial):
            error.filename = os.fspath(target)  # which the user has named
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """The same for a folder; one that is already there is replaced as a whole."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (target.with_name(f".{target.name}.{state}-{os.getpid()}") for state in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_csv(path: str | os.PathLike, rows: Iterable[Sequence[str]]) -> None:
    """A table in UTF-8, whole or absent. A cell that a spreadsheet would run as a formula gets a `'` in front."""
    with atomic_file(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        cells = ([f"'{cell}" if FORMULA.match(cell) else cell for cell in map(readable, row)] for row in rows)
        csv.writer(file).writerows(cells)


def read_csv(path: str | os.PathLike) -> list[list[str]]:
    """The rows that [`write_csv`] wrote; none where there is no such file."""
    if not os.path.isfile(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return [[cell[1:] if cell[:1] == "'" and FORMULA.match(cell) else cell for cell in row] for row in rows]


def readable(text: str) -> str:
    r"""Text that any file and terminal accepts: what is not valid Unicode, such as bytes of a file name, is escaped.

    >>> print(readable("caf\xe9 \udcff"))
    café \udcff
    """
    return text.encode(errors="backslashreplace").decode()


@contextmanager
def new_directory(path: str | os.PathLike) -> Iterator[Path]:
    """As [`atomic_directory`], but only for a folder that is not there yet, or is empty: nothing is ever replaced.

    Raises:
        FileExistsError: the folder holds something, or is a file.
    """
    target = Path(path)
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise FileExistsError(
            f"{target} is there already, and nothing in it is overwritten: name a new or empty folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial-{secrets.token_hex(8)}")
    partial.mkdir()
    try:
        yield partial
        if target.exists():
            target.rmdir()  # refuses where something has come meanwhile
        os.replace(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


# Error numbers of file systems without locks; `filelock` raises NotImplementedError for one of them.
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def locked(path: str | os.PathLike, *, patience: float) -> Iterator[None]:
    """Hold a file's lock while the block runs; a holder that is killed does not keep it.

    Some network file systems have no locks: there a warning says that two processes can interfere.

    Args:
        path: of the file, which is made.
        patience: seconds to wait for another holder.

    Raises:
        filelock.Timeout: another process holds it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=patience)
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in NO_LOCKS:
            raise
        _logger.warning("%s: no locks in this file system (%s), so start nothing else that writes here", path, error)
    try:
        yield
    finally:
        lock.release()


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def aligned(rows: Sequence[Sequence[str]], columns: str) -> str:
    """Rows of cells as lines of text, their columns aligned.

    Args:
        rows: as many cells in each as there are columns.
        columns: a character a column: `<` to the left, `>` to the right.

    >>> print(aligned([["", "score"], ["top1", "80.0"]], "<>"))
          score
    top1   80.0
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    forms = [f"{{:{side}{width}}}" for side, width in zip(columns, widths, strict=True)]
    return "\n".join(
        "  ".join(form.format(cell) for form, cell in zip(forms, row, strict=True)).rstrip() for row in rows
    )
