"""Checkpoints that are whole or absent: the newest few are kept, and one that was damaged later is noticed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

from .atomic import atomic_directory

MANIFEST = "manifest.json"
logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError):
    """A run cannot go on from its checkpoints; the message says why and what to do."""


class Checkpoints:
    """The checkpoints of one run, `step-00000500` and so on under `folder`.

    Args:
        folder: where they lie; made when the first is saved.
        keep: how many to keep.

    >>> import tempfile
    >>> checkpoints = Checkpoints(Path(tempfile.mkdtemp()), keep=2)
    >>> for step in (10, 20, 30):
    ...     checkpoints.save(step, lambda folder: (folder / "state").write_text("weights"))
    >>> [path.name for path in checkpoints.paths()], checkpoints.newest().name
    (['step-00000020', 'step-00000030'], 'step-00000030')
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder = folder
        self.keep = keep

    def paths(self) -> list[Path]:
        """All that are there, the oldest first."""
        return sorted(self.folder.glob("step-*"))

    def save(self, step: int, write: Callable[[Path], object]) -> None:
        """Let `write` fill a folder beside the others, seal it, put it in its place, and delete the oldest ones."""
        with atomic_directory(self.folder / f"step-{step:08d}") as partial:
            write(partial)
            files = {path.relative_to(partial).as_posix(): _digest(path) for path in _files(partial)}
            (partial / MANIFEST).write_text(json.dumps(files, indent=2))
        for old in self.paths()[: -self.keep]:
            shutil.rmtree(old)

    def newest(self) -> Path | None:
        """The newest that is whole, or `None` where there is none at all; damaged ones are warned of and passed over.

        Raises:
            CheckpointError: there are some, and all are damaged.
        """
        found = self.paths()
        for path in reversed(found):
            damage = _damage(path)
            if damage is None:
                return path
            logger.warning("%s is damaged, %s: going on from the checkpoint before", path, damage)
        if found:
            raise CheckpointError(f"all checkpoints in {self.folder} are damaged: start over with resume=false")
        return None

    def tidy(self, *, delete_all: bool = False) -> None:
        """Delete what killed writers left, or everything."""
        for path in self.folder.glob("*" if delete_all else ".*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:  # such as .DS_Store
                path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damage(path: Path) -> str | None:
    """What is wrong with a checkpoint, or `None`."""
    try:
        files: dict[str, str] = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"its {MANIFEST} cannot be read"
    for name, digest in files.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} has changed"
    return None
