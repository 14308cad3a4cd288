"""Criteo's click logs: one row an impression, with 13 counts and 26 hashed categories.

Reads the files as they are handed out: tab-separated without a header (Kaggle's ``train.txt`` and
the Terabyte days) or comma-separated with one, plain or gzipped, with empty fields for missing
values. They do not say which columns are the user's, nor which rows were shown together. So every
feature is an item's here, and requests are runs of consecutive rows (the files are in the order of
time) with a seeded spread of sizes.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.data.lines import CHUNK_BYTES, stream_lines
from rankers.data.log import CATEGORIES, COUNTS, RankingLog, click_signature, run_offsets
from rankers.errors import UserError, nearest
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rankers.requests import Array

COLUMNS = ("label", *COUNTS, *CATEGORIES)
BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Rows:
    """Consecutive rows of a file.

    Attributes:
        labels: float32 ``[rows]``, 0 or 1.
        dense: float32 ``[rows, 13]``: log1p of the counts; negative and missing ones count as 0.
        ids: int64 ``[rows]`` by category: 0 where missing, else 1 and up by a hash of the value.
    """

    labels: Array
    dense: Array
    ids: dict[str, Array]


def read_criteo(
    path: Path, *, buckets: int = BUCKETS, seed: int = 0, rows: int | None = None
) -> RankingLog:
    """Read a file to a log.

    Args:
        path: The file.
        buckets: How many IDs the values of each category are hashed to, besides 0 for missing.
        seed: Of the requests' sizes.
        rows: How many rows to read at most; all by default.

    Raises:
        UserError: The file is missing, empty or broken; the message names the line.
    """
    pieces: list[Rows] = []
    total = 0
    for piece in stream_criteo(path, buckets=buckets):
        pieces.append(piece)
        total += len(piece.labels)
        if rows is not None and total >= rows:
            break
    if not total:
        raise UserError(f"{path}: the file holds no rows")
    kept = min(total, rows or total)
    items = {"dense": np.concatenate([each.dense for each in pieces])[:kept]}
    for name in CATEGORIES:
        items[name] = np.concatenate([each.ids[name] for each in pieces])[:kept]
    return RankingLog(
        requests=RequestBatch(
            user={},
            items=items,
            offsets=run_offsets(kept, seed),
            labels=np.concatenate([each.labels for each in pieces])[:kept],
        ),
        signature=click_signature(dict.fromkeys(CATEGORIES, buckets + 1)),
    )


def stream_criteo(
    path: Path, *, buckets: int = BUCKETS, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[Rows]:
    """Read a file piece by piece, in memory that does not grow with it.

    Args:
        path: The file.
        buckets: As in `read_criteo`.
        chunk_bytes: About how much text is parsed at once.

    Raises:
        UserError: As `read_criteo`, when the broken line is reached.
    """
    if buckets < 1:
        raise UserError(f"{buckets} buckets were asked for; at least 1 is needed")
    form: _Form | None = None
    for first, lines in stream_lines(path, chunk_bytes=chunk_bytes):
        number, body = first, lines
        if form is None:
            form = _Form.of(path, lines[0])
            if form.header:
                number, body = first + 1, lines[1:]
        if body:
            yield _parse(path, form, body, number, buckets)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a file is written: its separator, whether it has a header, and its columns' order."""

    separator: str
    header: bool
    columns: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, line: bytes) -> _Form:
        text = line.decode("utf-8-sig", "replace").rstrip("\r\n")
        separator = "\t" if "\t" in text else ","
        columns = tuple(text.split(separator))
        if not any(name in COLUMNS for name in columns):
            return cls(separator, header=False, columns=COLUMNS)
        for name in COLUMNS:
            if columns.count(name) != 1:
                raise UserError(
                    f"{path} line 1: the header has column {name!r} {columns.count(name)} times; "
                    f"expected once; {nearest(name, columns)}"
                )
        unknown = [name for name in columns if name not in COLUMNS]
        if unknown:
            raise UserError(
                f"{path} line 1: unknown column {unknown[0]!r}; {nearest(unknown[0], COLUMNS)}"
            )
        return cls(separator, header=True, columns=columns)


def _parse(path: Path, form: _Form, lines: list[bytes], number: int, buckets: int) -> Rows:
    """Parse lines fast; if that fails, look for the line at fault."""
    try:
        table = _table(form, lines)
        labels = table["label"].to_numpy()
        counts = np.stack([table[name].to_numpy() for name in COUNTS], axis=1)
        values = {name: _hexadecimal(table[name]) for name in CATEGORIES}
        if len(labels) != len(lines) or not np.isin(labels, (0.0, 1.0)).all():
            raise ValueError("a row or a label is wrong")  # noqa: TRY301 - handled with Arrow's own
        if np.isinf(counts).any():
            raise ValueError("a count is not finite")  # noqa: TRY301 - handled with Arrow's own
    except ValueError as error:  # Arrow's errors are ValueErrors
        for place, line in enumerate(lines):
            fault = _fault(form, line)
            if fault:
                raise UserError(f"{path} line {number + place}: {fault}") from error
        raise UserError(
            f"{path}: lines {number} to {number + len(lines) - 1} cannot be parsed: {error}"
        ) from error
    dense = np.log1p(np.maximum(np.nan_to_num(counts, nan=0.0), 0.0)).astype(np.float32)
    ids = {name: _bucket(values[name], place, buckets) for place, name in enumerate(CATEGORIES)}
    return Rows(labels.astype(np.float32), dense, ids)


def _table(form: _Form, lines: list[bytes]) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    types = dict.fromkeys(("label", *COUNTS), pa.float64()) | dict.fromkeys(CATEGORIES, pa.string())
    return csv.read_csv(
        io.BytesIO(b"".join(lines)),
        read_options=csv.ReadOptions(column_names=form.columns, use_threads=False),
        parse_options=csv.ParseOptions(
            delimiter=form.separator, quote_char=False, ignore_empty_lines=False
        ),
        convert_options=csv.ConvertOptions(column_types=types, null_values=[""]),
    )


def _hexadecimal(column: Any) -> Array:
    """Read up to 8 hexadecimal digits, int64 ``[rows]``; -1 where the text is empty.

    Raises:
        ValueError: Some text is something else.
    """
    text = np.char.encode(column.fill_null("").to_numpy(zero_copy_only=False).astype(str), "ascii")
    if text.dtype.itemsize > 8:
        raise ValueError("a category has more than 8 digits")
    digits = text.astype("S8").view(np.uint8).reshape(-1, 8).astype(np.int64)  # 0 pads at the right
    values = np.zeros(len(text), dtype=np.int64)
    for place in range(8):
        digit = _DIGIT[digits[:, place]]
        if (digit < -1).any():
            raise ValueError("a category is not hexadecimal")
        values = np.where(digit >= 0, values * 16 + digit, values)
    return np.where(digits[:, 0] == 0, -1, values)


def _digits() -> Array:
    """Map a byte to its value as a hexadecimal digit; -1 for padding, -2 for anything else."""
    table = np.full(256, -2, dtype=np.int64)
    table[0] = -1
    for value, character in enumerate("0123456789abcdef"):
        table[ord(character)] = table[ord(character.upper())] = value
    return table


_DIGIT = _digits()


def _bucket(values: Array, place: int, buckets: int) -> Array:
    """Hash values to 1…buckets, each category by its own hash; -1 becomes 0."""
    # Multiplicative hashing with 64-bit mixing (Steele et al., SplitMix64, OOPSLA 2014): the files'
    # values are hashes already, but of 32 bits that a plain remainder would fold unevenly.
    mixed = values.astype(np.uint64) + np.uint64((place + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    ids = (mixed % np.uint64(buckets)).astype(np.int64) + 1
    return np.where(values < 0, 0, ids)


def _fault(form: _Form, line: bytes) -> str | None:
    """Say what is wrong with a line; None if nothing is."""
    try:
        text = line.decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError:
        return "holds a byte that is not ASCII; is this a Criteo file?"
    fields = text.split(form.separator)
    if len(fields) != len(COLUMNS):
        return f"{len(fields)} column(s); expected {len(COLUMNS)}: label, 13 counts, 26 categories"
    for name, value in zip(form.columns, fields, strict=True):
        if name == "label":
            if value not in {"0", "1", "0.0", "1.0"}:
                return f"the label is {value!r}; expected 0 or 1"
        elif name in COUNTS:
            if value and not _is_number(value):
                return f"{name} is {value!r}; expected a number or nothing"
        elif value and (len(value) > 8 or not set(value) <= set("0123456789abcdefABCDEF")):
            return f"{name} is {value!r}; expected up to 8 hexadecimal digits or nothing"
    return None


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text))) and "_" not in text
    except ValueError:
        return False
