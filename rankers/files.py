"""Writing so that a kill leaves the old or the new, never half: aside, fsync, rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASIDE = ".aside-"


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file at ``path`` by ``content`` in one step, with the mode a new file gets."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_ASIDE)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def new_folder(path: Path, *, beside: Path | None = None, replace: bool = False) -> Iterator[Path]:
    """Give a folder to fill; when the block ends without an error it appears at ``path``.

    Args:
        path: Where the folder is to appear. If one is there by then, it stays and the new one is
            dropped: whoever was first has written the same content.
        beside: The folder to fill it in, on the same file system; ``path``'s parent by default.
        replace: Whether a folder that is there makes way instead. Two renames do it: a kill between
            them leaves nothing at ``path``, and never half.

    Raises:
        UserError: ``beside`` is on another file system than ``path``.
    """
    parent = beside or path.parent
    parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=parent, prefix=_ASIDE))
    aside.chmod(0o777 & ~_umask())
    old: Path | None = None
    try:
        yield aside
        sync_tree(aside)
        path.parent.mkdir(parents=True, exist_ok=True)
        if replace and path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=_ASIDE))
            path.rename(old / path.name)
        if not path.exists():
            try:
                aside.rename(path)
            except OSError as error:
                if not path.exists():
                    raise UserError(f"{path}: cannot be put in place: {error}") from error
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)


def remove_leftovers(parent: Path) -> None:
    """Remove what a killed `new_folder` or `write_atomically` left in ``parent``.

    The caller holds a lock on ``parent``, or knows that nobody else is writing there.
    """
    for leftover in parent.glob(f"{_ASIDE}*"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below ``folder`` to disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root) / name, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        _sync_folder(Path(root))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
