"""A folder of Parquet shards that need not fit in memory: pieces of whole requests, read in turn.

What pieces there are is found when the folder is opened, from the files' footers and the request
column alone. A piece holds the requests that begin in one row group; a request that goes on in the
next row group is read to its end.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rankers.data.log import RankingLog, join_logs, run_offsets
from rankers.data.table_columns import Place
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from rankers.features import Signature
    from rankers.requests import Array

_BATCH_ROWS = 65_536


class ShardForm(Protocol):
    """What the columns of shards are. Forms can be sent to other processes."""

    @property
    def signature(self) -> Signature:
        """The features, known without reading any data."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns to read."""

    @property
    def request(self) -> str | None:
        """The column that rows of one request share; None for runs of consecutive rows."""

    def check(self, path: Path, names: list[str]) -> None:
        """Raise a `UserError` if a file with these columns is not of this form."""

    def log(self, where: Place, table: Any, offsets: Array) -> RankingLog:
        """Return the log of an Arrow table whose requests are cut at ``offsets``."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole requests that stand together in a shard.

    Attributes:
        path: The shard.
        groups: The row groups that hold them, in order.
        skip: Rows of the first of these groups that belong to the request before.
        first: The number of the first row in the file, from 1.
        rows: How many rows.
        requests: How many requests.
    """

    path: Path
    groups: tuple[int, ...]
    skip: int
    first: int
    rows: int
    requests: int


@dataclass(frozen=True, slots=True)
class ShardedLog:
    """Labelled requests in a folder of shards, in the order of the files' names.

    Attributes:
        form: What the columns are.
        pieces: What is read at once, in order.
        key: What tells these data from others: the files' names, sizes and footers.
        seed: Of the requests' sizes, where the form has no request column.
        files: As in `rankers.data.log.RankingLog`.
    """

    form: ShardForm
    pieces: tuple[Piece, ...]
    key: str
    seed: int = 0
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def signature(self) -> Signature:
        """The features."""
        return self.form.signature

    @property
    def rows(self) -> int:
        """ΣN, the number of candidates in all pieces."""
        return sum(each.rows for each in self.pieces)

    def read(self, pieces: Sequence[Piece]) -> RankingLog:
        """Read some pieces, one after the other.

        Raises:
            UserError: A file is broken or does not fit its form; the message names the row.
        """
        return join_logs([read_piece(self.form, each, seed=self.seed) for each in pieces])

    def first(self, rows: int) -> ShardedLog:
        """Return the first pieces: as few as hold ``rows`` rows, or all."""
        ends = np.cumsum([each.rows for each in self.pieces])
        enough = int(np.searchsorted(ends, rows)) + 1
        return replace(self, pieces=self.pieces[:enough])


def shard_files(folder: Path) -> list[Path]:
    """Return the Parquet files of a folder by name, without hidden and marker files."""
    return sorted(each for each in folder.glob("*.parquet") if each.name[0] not in "._")


def open_shards(folder: Path, form: ShardForm, *, seed: int = 0) -> ShardedLog:
    """Find out what a folder of shards holds.

    Args:
        folder: With files ``*.parquet``.
        form: What their columns are.
        seed: Of the requests' sizes, where the form has no request column.

    Raises:
        UserError: There are no files, one is broken or lacks a column, or a request begins in one
            file and goes on in the next.
    """
    files = shard_files(folder)
    if not files:
        raise UserError(f"{folder}: no *.parquet files here")
    pieces: list[Piece] = []
    before: tuple[Path, Any] | None = None
    for path in files:
        found, first, last = _index(path, form, seed)
        if before is not None and found and form.request is not None and first == before[1]:
            raise UserError(
                f"{path}: the request {first!r} goes on from {before[0].name}; "
                "write a request into one file"
            )
        if found:
            before = (path, last)
        pieces += found
    if not pieces:
        raise UserError(f"{folder}: the files hold no rows")
    return ShardedLog(form, tuple(pieces), shards_key(files), seed)


def shards_key(files: Sequence[Path]) -> str:
    """Return what tells shards from others without reading them: names, sizes, footers.

    A footer has the place, the compressed size and the range of values of every column of every row
    group.
    """
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 8))
            length = int.from_bytes(file.read(4), "little")
            file.seek(max(0, size - 8 - length))
            digest.update(f"{path.name} {size} ".encode())
            digest.update(file.read())
    return digest.hexdigest()


def read_piece(form: ShardForm, piece: Piece, *, seed: int = 0) -> RankingLog:
    """Read one piece.

    Raises:
        UserError: As `ShardedLog.read`.
    """
    import pyarrow as pa

    batches = []
    skip, missing = piece.skip, piece.rows
    for batch in _batches(piece.path, piece.groups, form.columns):
        kept = batch.slice(min(skip, batch.num_rows), missing)
        skip = max(0, skip - batch.num_rows)
        missing -= kept.num_rows
        batches.append(kept)
        if not missing:
            break
    if missing:
        raise UserError(f"{piece.path}: was changed after it was opened; start again")
    table = pa.Table.from_batches(batches)
    if form.request is None:
        offsets = run_offsets(piece.rows, seed)
    else:
        starts = np.flatnonzero(_changes(table[form.request]))
        offsets = np.concatenate([[0], starts, [piece.rows]]).astype(np.int64)
    return form.log(Place(str(piece.path), piece.first, "row"), table, offsets)


def _batches(path: Path, groups: Sequence[int], columns: Sequence[str]) -> Iterator[Any]:
    """Yield row groups a few rows at a time: of the last one only the beginning may be wanted."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            yield from file.iter_batches(
                _BATCH_ROWS, row_groups=list(groups), columns=list(columns), use_threads=False
            )
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error


def _changes(column: Any) -> Array:
    """Return where a column differs from the row before, bool ``[rows]``; the first does not."""
    import pyarrow as pa

    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    joined = pa.concat_arrays(chunks)
    codes = joined.dictionary_encode(null_encoding="encode").indices.to_numpy()
    changed: Array = np.diff(codes, prepend=codes[:1]) != 0
    return changed


def _index(path: Path, form: ShardForm, seed: int) -> tuple[list[Piece], Any, Any]:
    """Return a file's pieces, and the request of its first and of its last row."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            form.check(path, file.schema_arrow.names)
            metadata = file.metadata
            rows = [metadata.row_group(each).num_rows for each in range(metadata.num_row_groups)]
            if form.request is None:
                return _runs(path, rows, seed), None, None
            return _whole_requests(path, file, rows, form.request)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error


def _runs(path: Path, rows: Sequence[int], seed: int) -> list[Piece]:
    firsts = np.cumsum([1, *rows])
    return [
        Piece(path, (each,), 0, int(firsts[each]), count, len(run_offsets(count, seed)) - 1)
        for each, count in enumerate(rows)
        if count
    ]


def _whole_requests(
    path: Path, file: Any, rows: Sequence[int], request: str
) -> tuple[list[Piece], Any, Any]:
    """Cut a file where a request begins in another row group than the one before."""
    pieces: list[Piece] = []
    first = last = None
    number = 1
    for group, count in enumerate(rows):
        if not count:
            continue
        column = file.read_row_group(group, columns=[request], use_threads=False)[request]
        starts = np.flatnonzero(_changes(column)).tolist()
        begins = column[0].as_py()
        if not pieces:
            first = begins
        if not pieces or begins != last:
            starts = [0, *starts]
        head = starts[0] if starts else count  # rows of the request that began before
        if head and pieces:
            before = pieces[-1]
            pieces[-1] = Piece(
                path, (*before.groups, group), before.skip, before.first, before.rows + head,
                before.requests,
            )  # fmt: skip
        if head < count:
            pieces.append(Piece(path, (group,), head, number + head, count - head, len(starts)))
        last = column[-1].as_py()
        number += count
    return pieces, first, last
