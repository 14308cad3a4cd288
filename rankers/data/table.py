"""Any table of labelled rows, CSV, TSV or Parquet, by a schema that says which column is what."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.data.lines import CHUNK_BYTES, stream_lines
from rankers.data.log import RankingLog, run_offsets
from rankers.data.table_columns import Place, feature_column, label_column
from rankers.data.table_text import text_columns
from rankers.errors import UserError, nearest
from rankers.hashing import hash_ids
from rankers.requests import RequestBatch
from rankers.text import TOKENIZER, say_truncated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.data.table_schema import TableSchema
    from rankers.requests import Array, Columns
    from rankers.text import TextEncoder

_PARQUET = b"PAR1"
_BATCH_ROWS = 65_536


def read_table(
    path: Path, schema: TableSchema, *, rows: int | None = None, seed: int = 0
) -> RankingLog:
    """Read a table to a log.

    Args:
        path: CSV or TSV with a header, plain or gzipped (no line breaks within fields), or Parquet.
        schema: What its columns are.
        rows: How many rows to read at most; the last request is kept whole only if all of it is
            read.
        seed: Of the requests' sizes, where the schema names no request column.

    Raises:
        UserError: The file is missing or broken, or does not fit the schema; the message names the
            line (of Parquet, the row).
    """
    pieces: list[Columns] = []
    total = 0
    schema, encoder, tokenizer = text_columns(
        schema, lambda: (table for _, table in _tables(path, schema)), rows
    )
    for piece in stream_table(path, schema, encoder):
        pieces.append(piece)
        total += len(piece[_LABEL])
        if rows is not None and total >= rows:
            break
    if not total:
        raise UserError(f"{path}: the table holds no rows")
    kept = min(total, rows or total)
    columns = {name: np.concatenate([each[name] for each in pieces])[:kept] for name in pieces[0]}
    if schema.request is None:
        offsets = run_offsets(kept, seed)
    else:
        offsets = _offsets(path, columns.pop(_REQUEST), schema.request)
    if encoder is not None:
        names = encoder.truncated
        say_truncated(path, names, dict.fromkeys(names, total))
    files = {TOKENIZER: tokenizer} if tokenizer else {}
    requests = requests_of(Place(str(path), 1, "row"), schema, columns, offsets)
    return RankingLog(requests, schema.signature, files=files)


def stream_table(
    path: Path, schema: TableSchema, encoder: TextEncoder | None = None
) -> Iterator[Columns]:
    """Read a table piece by piece, in memory that does not grow with it.

    Args:
        path: See `read_table`.
        schema: What its columns are.
        encoder: What makes token IDs of texts, if there are any.

    Yields:
        Features by name, labels under ``.label`` and requests' hashes under ``.request``.

    Raises:
        UserError: As for `read_table`, when the broken line is reached.
    """
    for where, table in _tables(path, schema):
        piece = parse_table(where, table, schema, encoder)
        if schema.request is not None:
            values = table[schema.request].cast("string").to_pylist()
            piece[_REQUEST] = hash_ids(values, 2**62, salt="request")
        yield piece


def parse_table(
    where: Place, table: Any, schema: TableSchema, encoder: TextEncoder | None = None
) -> Columns:
    """Return an Arrow table's features by name, and its labels under ``.label``.

    Raises:
        UserError: A value does not fit the schema; the message says where.
    """
    columns = {_LABEL: label_column(where, table[schema.label], schema)}
    for each in schema.features:
        columns[each.name] = feature_column(where, each, table[each.column], encoder)
    return columns


# No identifier has a dot: these cannot be a feature's name.
_LABEL, _REQUEST = ".label", ".request"


def _tables(path: Path, schema: TableSchema) -> Iterator[tuple[Place, Any]]:
    """Yield where rows begin and an Arrow table of the schema's columns."""
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == _PARQUET
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    yield from _parquet(path, schema) if parquet else _text(path, schema)


def _parquet(path: Path, schema: TableSchema) -> Iterator[tuple[Place, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        check_names(path, schema, file.schema_arrow.names)
        number = 1
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(schema.columns)):
            yield Place(str(path), number, "row"), pa.table(batch)
            number += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error


def _text(path: Path, schema: TableSchema) -> Iterator[tuple[Place, Any]]:
    import pyarrow as pa
    from pyarrow import csv

    names: list[str] = []
    separator = ","
    for first, lines in stream_lines(path, chunk_bytes=CHUNK_BYTES):
        number, body = first, lines
        if first == 1:
            header = lines[0].decode("utf-8-sig", "replace").rstrip("\r\n")
            separator = "\t" if "\t" in header else ","
            names = next(iter(csv_rows(header, separator)))
            check_names(path, schema, names)
            number, body = 2, lines[1:]
        if not body:
            continue
        wanted = dict.fromkeys(schema.columns, pa.string())
        try:
            table = csv.read_csv(
                io.BytesIO(b"".join(body)),
                read_options=csv.ReadOptions(column_names=names, use_threads=False),
                parse_options=csv.ParseOptions(delimiter=separator, ignore_empty_lines=False),
                convert_options=csv.ConvertOptions(
                    column_types=wanted, include_columns=list(wanted), null_values=[""],
                    strings_can_be_null=True, quoted_strings_can_be_null=True,
                ),
            )  # fmt: skip
        except pa.ArrowInvalid as error:
            raise UserError(_fault(path, number, body, (len(names), separator), error)) from error
        if table.num_rows != len(body):
            raise UserError(f"{path}: a field has a line break between lines {number} and "
                            f"{number + len(body) - 1}; write rows on one line each")  # fmt: skip
        yield Place(str(path), number), table


def csv_rows(text: str, separator: str) -> Iterator[list[str]]:
    """Split a line of CSV."""
    import csv

    yield from csv.reader([text], delimiter=separator)


def _fault(
    path: Path, number: int, lines: list[bytes], form: tuple[int, str], error: Exception
) -> str:
    """Say which line is broken. ``form`` is how many fields a line has and what is between them."""
    expected, separator = form
    for place, line in enumerate(lines):
        try:
            fields = next(iter(csv_rows(line.decode().rstrip("\r\n"), separator)), [])
        except UnicodeDecodeError:
            return f"{path} line {number + place}: is not UTF-8 text"
        if len(fields) != expected:
            return f"{path} line {number + place}: {len(fields)} field(s); expected {expected}"
    return f"{path}: lines {number} to {number + len(lines) - 1} cannot be parsed: {error}"


def check_names(path: Path, schema: TableSchema, names: list[str]) -> None:
    """Check that a table has every column of the schema once.

    Raises:
        UserError: It does not.
    """
    for column in schema.columns:
        if names.count(column) != 1:
            raise UserError(
                f"{path}: has column {column!r} {names.count(column)} times; expected once; "
                f"{nearest(column, names)}"
            )


def _offsets(path: Path, request: Array, column: str) -> Array:
    """Return where requests begin and end, int64 ``[R + 1]``."""
    starts = np.concatenate([[0], np.flatnonzero(np.diff(request)) + 1])
    unique, counts = np.unique(request[starts], return_counts=True)
    if (counts > 1).any():
        again = np.flatnonzero(request[starts] == unique[np.argmax(counts > 1)])[1]
        raise UserError(
            f"{path}: the rows of a request do not stand together: one goes on in data row "
            f"{starts[again] + 1}; sort the table by {column!r}"
        )
    return np.append(starts, len(request)).astype(np.int64)


def requests_of(
    where: Place, schema: TableSchema, columns: Columns, offsets: Array
) -> RequestBatch:
    """Return parsed columns as requests; each one's user is from its first row.

    Raises:
        UserError: A user's feature changes within a request.
    """
    user: Columns = {}
    items: Columns = {}
    for each in schema.features:
        values = columns[each.name]
        if each.side == "item":
            items[each.name] = values
            continue
        firsts = values[offsets[:-1]]
        differ = values != np.repeat(firsts, np.diff(offsets), axis=0)
        differ = differ.reshape(len(values), -1).any(axis=1)
        if differ.any():
            raise UserError(
                f"{where.source}: feature {each.name!r} is the user's, but changes within a "
                f"request in data row {where.first + int(np.argmax(differ))}; is it the item's?"
            )
        user[each.name] = firsts
    return RequestBatch(user, items, offsets, columns[_LABEL])
