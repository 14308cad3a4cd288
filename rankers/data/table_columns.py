"""Columns of a table, as read, to features and labels: every value checked, and named if wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.bags import pad_bags
from rankers.errors import UserError
from rankers.hashing import hash_ids

if TYPE_CHECKING:
    from rankers.data.table_schema import TableFeature, TableSchema
    from rankers.requests import Array
    from rankers.text import TextEncoder


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows come from, for messages.

    Attributes:
        source: A file, as a person knows it.
        first: The number of the first row.
        unit: What is numbered: a text's ``line``, or a ``row``.
    """

    source: str
    first: int
    unit: str = "line"

    def of(self, row: int) -> str:
        """Say where a row is, counted from the first."""
        return f"{self.source} {self.unit} {self.first + row}"


def label_column(where: Place, column: Any, schema: TableSchema) -> Array:
    """Return labels, float32 ``[rows]``.

    Raises:
        UserError: One is missing, no number, or out of range; the message says where.
    """
    values = _numbers(where, column, f"the label {schema.label!r}", missing=None)
    wrong = (values < 0) | (values > (np.inf if schema.score == "relevance" else 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        expected = "a grade of 0 or more" if schema.score == "relevance" else "0 to 1"
        raise UserError(f"{where.of(row)}: the label is {values[row]:g}; expected {expected}")
    return values.astype(np.float32)


def _numbers(where: Place, column: Any, said: str, *, missing: float | None) -> Array:
    """Return float64 ``[rows]``."""
    import pyarrow as pa

    if column.null_count and missing is None:
        row = int(np.argmax(column.is_null().to_numpy()))
        raise UserError(f"{where.of(row)}: {said} is missing; expected a number")
    try:
        values = column.cast(pa.float64()).fill_null(missing or 0.0).to_numpy()
    except pa.ArrowException as error:  # of the value, or of the whole column's type
        for row, value in enumerate(column.to_pylist()):
            try:
                float(value or 0)
            except (TypeError, ValueError):
                raise UserError(
                    f"{where.of(row)}: {said} is {value!r}; expected a number"
                ) from error
        raise UserError(f"{where.of(0)}: {said}: {error}; expected numbers") from error
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise UserError(f"{where.of(row)}: {said} is {values[row]}; expected a finite number")
    found: Array = values
    return found


def feature_column(
    where: Place, each: TableFeature, column: Any, encoder: TextEncoder | None = None
) -> Array:
    """Return a feature's values ``[rows, …]`` out of an Arrow column.

    Raises:
        UserError: A value does not fit the schema; the message says where.
    """
    said = f"feature {each.name!r}"
    if each.kind == "text":
        if encoder is None:
            raise UserError(f"{where.source}: {said} is a text; give an encoder")
        texts = column.cast("string").fill_null("").to_pylist()
        return encoder.encode(each.name, texts)
    if each.kind == "number":
        values = _numbers(where, column, said, missing=each.missing)
        if each.transform == "log1p":
            if (values < 0).any():
                row = int(np.argmax(values < 0))
                raise UserError(
                    f"{where.of(row)}: {said} is {values[row]:g}; log1p needs 0 or more"
                )
            values = np.log1p(values)
        return _float32(where, values, said)
    if each.length is None:
        return _ids(where, each, column, said)
    return _bags(where, each, column, said)


def _float32(where: Place, values: Array, said: str) -> Array:
    largest = float(np.finfo(np.float32).max)
    beyond = np.abs(values) > largest
    if beyond.any():
        row = int(np.argmax(beyond))
        raise UserError(
            f"{where.of(row)}: {said} is {values[row]:g}, beyond float32's {largest:.3g}; scale "
            'it, or take transform = "log1p"'
        )
    return values.astype(np.float32)


def _bags(where: Place, each: TableFeature, column: Any, said: str) -> Array:
    """Return bags of IDs, int64 ``[rows, L]``; nothing in a bag is a missing value and no ID."""
    from pyarrow import types

    kind = column.type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    # A column of nothing but missing values has the type of none.
    if is_list == (each.separator is not None) and not types.is_null(kind):
        hint = "leave the separator out" if is_list else "name the separator of its IDs"
        raise UserError(f"{where.of(0)}: {said} is a column of {kind}; {hint}")
    texts = column.to_pylist()
    if each.separator is not None:
        bags = [[] if text is None else str(text).split(each.separator) for text in texts]
    else:
        bags = [[value for value in bag or () if value is not None] for bag in texts]
    flat = [str(value) for bag in bags for value in bag]
    row_of = np.repeat(np.arange(len(bags)), [len(bag) for bag in bags])
    ids = _flat_ids(where, each, flat, row_of, said)
    cuts = np.cumsum([len(bag) for bag in bags])[:-1]
    return pad_bags([bag[bag != 0] for bag in np.split(ids, cuts)], each.feature)


def _ids(where: Place, each: TableFeature, column: Any, said: str) -> Array:
    """Return IDs, int64 ``[rows]``: hashes of the distinct values, or the values themselves."""
    import pyarrow as pa

    try:
        coded = column.cast("string").combine_chunks().dictionary_encode()
    except pa.ArrowException as error:
        raise UserError(
            f"{where.of(0)}: {said} is a column of {column.type}; expected an ID a row, or give "
            "the feature a length"
        ) from error
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
    where: Place, each: TableFeature, values: list[str], row_of: Array, said: str
) -> Array:
    """Return the IDs of values that stand in the given rows, int64 ``[values]``."""
    if each.buckets is not None:
        return hash_ids(values, each.buckets, salt=each.name)
    cardinality = each.cardinality or 0
    ids = np.empty(len(values), dtype=np.int64)
    for place, value in enumerate(values):
        if not value.isdecimal():
            raise UserError(
                f"{where.of(int(row_of[place]))}: {said} is {value!r}; expected a whole number "
                f"from 0 to {cardinality - 1}, or hash into buckets"
            )
        number = int(value)
        if number >= cardinality and not each.oov:
            raise UserError(
                f"{where.of(int(row_of[place]))}: {said} is {value!r}; IDs run from 0 to "
                f"{cardinality - 1}: raise the cardinality, set oov = true, or hash into buckets"
            )
        ids[place] = min(number, cardinality)  # with oov, the row after the last
    return ids
