"""Click logs as Parquet: Criteo's columns, plus which rows are of one request.

::

    request       int64, ascending; rows of one request stand together
    label         int8, 0 or 1
    I1 … I13      int32 counts, 0 and up
    C1 … C26      int32 IDs
    probability   float32, the true click probability
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.data.log import CATEGORIES, COUNTS, RankingLog
from rankers.data.synthetic import CARDINALITIES, SIGNATURE, ClickModel
from rankers.errors import UserError, nearest
from rankers.files import new_folder
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.requests import Array

COLUMNS = ("request", "label", *COUNTS, *CARDINALITIES, "probability")


def write_parquet(path: Path, rows: int, model: ClickModel | None = None) -> int:
    """Write a synthetic log, one row group at a time; the file appears when it is whole.

    Args:
        path: The file to write; one that is there is replaced.
        rows: How many rows at least; the last request is not cut.
        model: What draws the log.

    Returns:
        How many rows were written.

    Raises:
        UserError: ``rows`` is less than 1, or the file cannot be written.
    """
    if rows < 1:
        raise UserError(f"{rows} rows were asked for; a log has 1 or more")
    # Named as rankers.files names what a kill may leave; made by the writer, so of the usual mode.
    aside = path.with_name(f".aside-{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        written, _ = _write(aside, (model or ClickModel()).blocks(rows), first_request=0)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error}") from error
    finally:
        aside.unlink(missing_ok=True)
    return written


def write_shards(folder: Path, rows: int, shards: int, model: ClickModel | None = None) -> int:
    """Write a synthetic log as a folder of files, in memory that does not grow with it.

    Args:
        folder: Where it is to appear, whole; one that is there is refused.
        rows: How many rows at least in all.
        shards: Into how many files at most; each holds whole requests.
        model: What draws the log.

    Returns:
        How many rows were written.

    Raises:
        UserError: The folder is there already, or cannot be written.
    """
    if folder.exists():
        raise UserError(f"{folder} exists; choose another --out")
    written = requests = 0
    blocks = iter((model or ClickModel()).blocks(rows))
    try:
        with new_folder(folder) as aside:
            for number in range(shards):
                wanted = rows * (number + 1) // shards - written
                if wanted > 0:
                    path = aside / f"part-{number:05d}.parquet"
                    more, requests = _write(path, _until(blocks, wanted), first_request=requests)
                    written += more
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error}") from error
    return written


def _write(path: Path, blocks: Iterator[RankingLog], *, first_request: int) -> tuple[int, int]:
    """Write blocks, a row group each; return how many rows, and the next request's number."""
    from pyarrow import parquet

    written = 0
    with parquet.ParquetWriter(path, _schema()) as writer:
        for block in blocks:
            writer.write_table(_table(block, first_request))
            written += block.requests.rows
            first_request += len(block.requests)
    return written, first_request


def _until(blocks: Iterator[RankingLog], rows: int) -> Iterator[RankingLog]:
    """Take blocks until they hold so many rows."""
    while rows > 0 and (block := next(blocks, None)) is not None:
        yield block
        rows -= block.requests.rows


def read_parquet(path: Path) -> RankingLog:
    """Read what `write_parquet` wrote.

    Raises:
        UserError: The file is missing or damaged, lacks a column, or holds what its columns cannot.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            hint = nearest(missing[0], table.column_names)
            raise UserError(f"{path}: column {missing[0]!r} is missing; {hint}")
        columns = {name: table[name].to_numpy() for name in COLUMNS}
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    return log_of(str(path), columns)


def log_of(said: str, columns: dict[str, Array]) -> RankingLog:
    """Group rows to requests, and check that a request's rows agree on their user.

    Args:
        said: Where the rows are from, for messages.
        columns: By name, `COLUMNS`.

    Raises:
        UserError: They hold what they cannot.
    """
    request = columns["request"]
    if not len(request):
        raise UserError(f"{said}: the log is empty")
    for name, column in columns.items():
        # A missing value makes a column of numbers one of NaN or of objects.
        if column.dtype.kind not in "iuf" or not np.isfinite(column).all():
            raise UserError(
                f"{said}: column {name!r} has a missing value, or one that is no number"
            )
    wrong = ~np.isin(columns["label"], (0, 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(f"{said}: the label of row {row + 1} is {columns['label'][row]}; "
                        "expected 0 or 1")  # fmt: skip
    starts = np.concatenate([[0], np.flatnonzero(np.diff(request)) + 1])
    user_ids = [each.name for each in SIGNATURE.user if each.name != "dense"]
    for name in (*COUNTS, *user_ids):
        changed = (np.diff(columns[name]) != 0) & (np.diff(request) == 0)
        if changed.any():
            raise UserError(
                f"{said}: {name} changes within request {request[np.argmax(changed)]}, "
                "but it is the user's and the same for all candidates"
            )
    counts = np.stack([columns[name][starts] for name in COUNTS], axis=1)
    log = RankingLog(
        requests=RequestBatch(
            user={
                "dense": np.log1p(counts).astype(np.float32),
                **{name: columns[name][starts].astype(np.int64) for name in user_ids},
            },
            items={each.name: columns[each.name].astype(np.int64) for each in SIGNATURE.item},
            offsets=np.append(starts, len(request)).astype(np.int64),
            labels=columns["label"].astype(np.float32),
        ),
        signature=SIGNATURE,
        truth=columns["probability"].astype(np.float32),
    )
    try:
        log.requests.check(SIGNATURE)
    except UserError as error:
        raise UserError(f"{said}: {error}") from error
    return log


def _schema() -> Any:
    import pyarrow as pa

    fields = [("request", pa.int64()), ("label", pa.int8())]
    fields += [(name, pa.int32()) for name in (*COUNTS, *CARDINALITIES)]
    return pa.schema([*fields, ("probability", pa.float32())])


def _table(block: RankingLog, first_request: int) -> Any:
    import pyarrow as pa

    batch = block.requests
    flat = batch.flat()
    assert batch.labels is not None  # noqa: S101 - the generator always draws labels
    counts = np.rint(np.expm1(flat["dense"].astype(np.float64)))
    columns: dict[str, Array] = {
        "request": np.repeat(np.arange(len(batch)) + first_request, batch.candidates),
        "label": batch.labels,
        "probability": block.truth if block.truth is not None else batch.labels,
    }
    columns |= {name: counts[:, place] for place, name in enumerate(COUNTS)}
    columns |= {name: flat[name] for name in CATEGORIES}
    return pa.table(
        [pa.array(columns[field.name].astype(field.type.to_pandas_dtype())) for field in _schema()],
        schema=_schema(),
    )
