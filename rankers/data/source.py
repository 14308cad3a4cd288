"""Logs by what a person would call them: ``synthetic``, or a file of any kind we read."""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from rankers.data.log import RankingLog
    from rankers.data.shards import ShardedLog

SYNTHETIC = "synthetic"
SYNTHETIC_ROWS = 400_000
# Kinds of synthetic logs. Each is a frozen dataclass of strengths with a ``seed`` and
# ``draw(rows) -> RankingLog``.
SYNTHETIC_LOGS = {
    "clicks": "rankers.data.synthetic:ClickModel",
    "histories": "rankers.data.synthetic_histories:HistoryModel",
    "texts": "rankers.data.synthetic_text:TextModel",
}


def synthetic_log(kind: str, *, seed: int = 0) -> Any:
    """Return what draws synthetic logs of a kind.

    Raises:
        UserError: There is no such kind.
    """
    if kind not in SYNTHETIC_LOGS:
        raise UserError(f"no synthetic log {kind!r}; {nearest(kind, SYNTHETIC_LOGS)}")
    module, _, attribute = SYNTHETIC_LOGS[kind].partition(":")
    return getattr(importlib.import_module(module), attribute)(seed=seed)


def data_key(data: str) -> str:
    """Return what tells one source of data from another: its content, not its name.

    Of a folder of Parquet shards it is their names, sizes and footers.

    Raises:
        UserError: There is no such file.
    """
    if _kind(data) is not None:
        return data
    from rankers.data.formats import files_of
    from rankers.data.shard_forms import find_shards
    from rankers.data.shards import shard_files, shards_key

    path = Path(data)
    if not path.exists():
        raise UserError(f"no data file {data!r}; give a file's path, or {SYNTHETIC!r}")
    shards = find_shards(path)
    if shards is not None:
        schema = path.read_bytes() if path.is_file() else b""
        return hashlib.sha256(schema + shards_key(shard_files(shards[0])).encode()).hexdigest()
    digests = []
    for each in files_of(path):
        with each.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )


def read_log(data: str, *, rows: int | None = None, seed: int = 0) -> RankingLog:
    """Draw or read a click log.

    Args:
        data: ``synthetic`` (clicks) or ``synthetic:KIND``; or a file or folder that
            `rankers.data.formats` reads.
        rows: Of a drawn log; of a file, how many to read at most.
        seed: Of what is drawn.

    Raises:
        UserError: There is no such file, or it is broken; the message says where.
    """
    kind = _kind(data)
    if kind is not None:
        log: RankingLog = synthetic_log(kind, seed=seed).draw(rows or SYNTHETIC_ROWS)
        return log
    from rankers.data.formats import read_file

    return read_file(Path(data), rows=rows, seed=seed)


def open_log(data: str, *, rows: int | None = None, seed: int = 0) -> RankingLog | ShardedLog:
    """Open a folder of Parquet shards to train on piece by piece; read anything else to memory.

    Args:
        data: As in `read_log`.
        rows: As there; of shards, up to a whole piece.
        seed: As there.

    Raises:
        UserError: As there.
    """
    from rankers.data.shard_forms import open_sharded

    shards = None if _kind(data) is not None else open_sharded(Path(data), rows=rows, seed=seed)
    return read_log(data, rows=rows, seed=seed) if shards is None else shards


def _kind(data: str) -> str | None:
    """Return the kind of a synthetic log; None for a file."""
    if data == SYNTHETIC:
        return "clicks"
    kind = data.removeprefix(f"{SYNTHETIC}:")
    return kind if kind != data else None
