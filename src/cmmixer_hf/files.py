"""Files that are whole or absent, digests of files, and aligned tables of text."""

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends well, and vanishes when it does not.

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
