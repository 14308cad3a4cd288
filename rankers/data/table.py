"""Any table of labelled rows, CSV, TSV or Parquet, by a schema that says which column is what."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.bags import pad_bags
from rankers.data.lines import CHUNK_BYTES, stream_lines
from rankers.data.log import RankingLog, run_offsets
from rankers.data.table_text import text_columns
from rankers.errors import UserError, nearest
from rankers.hashing import hash_ids
from rankers.requests import RequestBatch
from rankers.text import TOKENIZER, say_truncated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.data.table_schema import TableFeature, TableSchema
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
    requests = _requests(path, schema, columns, offsets)
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
    for first, table in _tables(path, schema):
        where = _Place(path, first)
        piece = {_LABEL: _labels(where, table[schema.label], schema)}
        if schema.request is not None:
            values = table[schema.request].cast("string").to_pylist()
            piece[_REQUEST] = hash_ids(values, 2**62, salt="request")
        for each in schema.features:
            column = table[each.column]
            if each.kind != "text":
                piece[each.name] = _column(where, each, column)
            elif encoder is None:
                raise UserError(f"{path}: feature {each.name!r} is a text; give an encoder")
            else:
                texts = column.cast("string").fill_null("").to_pylist()
                piece[each.name] = encoder.encode(each.name, texts)
        yield piece


# No identifier has a dot: these cannot be a feature's name.
_LABEL, _REQUEST = ".label", ".request"


class _Place:
    """Where a row is, for messages."""

    def __init__(self, path: Path, first: int) -> None:
        self.path = path
        self.first = first

    def of(self, row: int) -> str:
        return f"{self.path} line {self.first + row}"


def _tables(path: Path, schema: TableSchema) -> Iterator[tuple[int, Any]]:
    """Yield the first line's number and an Arrow table of the schema's columns."""
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == _PARQUET
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    yield from _parquet(path, schema) if parquet else _text(path, schema)


def _parquet(path: Path, schema: TableSchema) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        _check_names(path, schema, file.schema_arrow.names)
        number = 1
        for batch in file.iter_batches(_BATCH_ROWS, columns=list(schema.columns)):
            yield number, pa.table(batch)
            number += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error


def _text(path: Path, schema: TableSchema) -> Iterator[tuple[int, Any]]:
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
            _check_names(path, schema, names)
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
        yield number, table


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


def _check_names(path: Path, schema: TableSchema, names: list[str]) -> None:
    for column in schema.columns:
        if names.count(column) != 1:
            raise UserError(
                f"{path}: has column {column!r} {names.count(column)} times; expected once; "
                f"{nearest(column, names)}"
            )


def _labels(where: _Place, column: Any, schema: TableSchema) -> Array:
    values = _numbers(where, column, f"the label {schema.label!r}", missing=None)
    wrong = (values < 0) | (values > (np.inf if schema.score == "relevance" else 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "a grade of 0 or more" if schema.score == "relevance" else "0 to 1"
        raise UserError(f"{where.of(row)}: the label is {values[row]:g}; expected {expected}")
    return values.astype(np.float32)


def _numbers(where: _Place, column: Any, said: str, *, missing: float | None) -> Array:
    """Return float64 ``[rows]``."""
    import pyarrow as pa

    if column.null_count and missing is None:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise UserError(f"{where.of(row)}: {said} is missing; expected a number")
    try:
        values = column.cast(pa.float64()).fill_null(missing or 0.0).to_numpy()
    except pa.ArrowInvalid as error:
        for row, value in enumerate(column.to_pylist()):
            try:
                float(value or 0)
            except (TypeError, ValueError):
                raise UserError(
                    f"{where.of(row)}: {said} is {value!r}; expected a number"
                ) from error
        raise UserError(f"{where.of(0)}: {said}: {error}") from error
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise UserError(f"{where.of(row)}: {said} is {values[row]}; expected a finite number")
    found: Array = values
    return found


def _column(where: _Place, each: TableFeature, column: Any) -> Array:
    said = f"feature {each.name!r}"
    if each.kind == "number":
        values = _numbers(where, column, said, missing=each.missing)
        if each.transform == "log1p":
            if (values < 0).any():
                row = int(np.argmax(values < 0))
                raise UserError(
                    f"{where.of(row)}: {said} is {values[row]:g}; log1p needs 0 or more"
                )
            values = np.log1p(values)
        return values.astype(np.float32)
    if each.length is None:
        return _ids(where, each, column, said)
    texts = column.to_pylist()
    if each.separator is not None:
        bags = [[] if text is None else str(text).split(each.separator) for text in texts]
    else:
        bags = [[] if bag is None else bag for bag in texts]
        if bags and not isinstance(bags[0], list):
            raise UserError(
                f"{where.of(0)}: {said} is {bags[0]!r}; expected a list, or name a separator"
            )
    flat = [str(value) for bag in bags for value in bag]
    row_of = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    ids = _flat_ids(where, each, flat, row_of, said)
    cuts = np.cumsum([len(bag) for bag in bags])[:-1]
    return pad_bags([bag[bag != 0] for bag in np.split(ids, cuts)], each.feature)


def _ids(where: _Place, each: TableFeature, column: Any, said: str) -> Array:
    """Return IDs, int64 ``[rows]``: hashes of the distinct values, or the values themselves."""
    coded = column.cast("string").combine_chunks().dictionary_encode()
    if hasattr(coded, "chunks"):
        coded = coded.combine_chunks()
    if coded.null_count and each.buckets is None:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise UserError(f"{where.of(row)}: {said} is missing; expected an ID")
    codes = coded.indices.fill_null(len(coded.dictionary)).to_numpy()
    first = np.zeros(len(coded.dictionary), dtype=np.int64)
    first[codes[::-1][codes[::-1] < len(first)]] = np.arange(len(codes))[::-1][
        codes[::-1] < len(first)
    ]
    known = _flat_ids(where, each, coded.dictionary.to_pylist(), first, said)
    ids: Array = np.append(known, 0)[codes]
    return ids


def _flat_ids(
    where: _Place, each: TableFeature, values: list[str], row_of: Array, said: str
) -> Array:
    """Return the IDs of values that stand in the given rows, int64 ``[values]``."""
    if each.buckets is not None:
        return hash_ids(values, each.buckets, salt=each.name)
    cardinality = each.cardinality or 0
    ids = np.empty(len(values), dtype=np.int64)
    for place, value in enumerate(values):
        if not value.isdecimal() or int(value) >= cardinality:
            raise UserError(
                f"{where.of(int(row_of[place]))}: {said} is {value!r}; IDs run from 0 to "
                f"{cardinality - 1}: raise the cardinality, or hash into buckets"
            )
        ids[place] = int(value)
    return ids


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


def _requests(path: Path, schema: TableSchema, columns: Columns, offsets: Array) -> RequestBatch:
    """Take each request's user from its first row, after all its rows agree."""
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
                f"{path}: feature {each.name!r} is the user's, but changes within a request in "
                f"data row {int(np.argmax(differ)) + 1}; is it the item's?"
            )
        user[each.name] = firsts
    return RequestBatch(user, items, offsets, columns[_LABEL])
