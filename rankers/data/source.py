"""Click logs by what a person would call them: ``synthetic``, or a file of any kind we read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from rankers.errors import UserError

if TYPE_CHECKING:
    from rankers.data.log import ClickLog

SYNTHETIC = "synthetic"
SYNTHETIC_ROWS = 400_000


def data_key(data: str) -> str:
    """Return what tells one source of data from another: its content, not its name.

    Raises:
        UserError: There is no such file.
    """
    if data == SYNTHETIC:
        return data
    path = Path(data)
    if not path.is_file():
        raise UserError(f"no data file {data!r}; give a file's path, or {SYNTHETIC!r}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_log(data: str, *, rows: int | None = None, seed: int = 0) -> ClickLog:
    """Draw or read a click log.

    Args:
        data: ``synthetic``, or a file of Criteo's or in Parquet, as its first bytes tell.
        rows: Of a drawn log; of a file, how many to read at most.
        seed: Of what is drawn.

    Raises:
        UserError: There is no such file, or it is broken; the message says where.
    """
    from rankers.data.parquet import MAGIC, read_parquet

    if data == SYNTHETIC:
        from rankers.data.synthetic import ClickModel

        return ClickModel(seed=seed).draw(rows or SYNTHETIC_ROWS)
    path = Path(data)
    try:
        with path.open("rb") as file:
            is_parquet = file.read(len(MAGIC)) == MAGIC
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    if is_parquet:
        log = read_parquet(path)
        return log if rows is None else log.first(rows)
    from rankers.data.criteo import read_criteo

    return read_criteo(path, rows=rows, seed=seed)
