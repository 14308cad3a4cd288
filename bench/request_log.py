"""Recorded requests, from Parquet or safetensors.

In Parquet a row is a request: a column for each feature, values of user features as they are and
values of item features as lists with one entry for each candidate. Other columns, such as arrival
times, are left alone, so that the same file can be replayed in time (`bench.arrival_trace`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError
from rankers.requests import RequestBatch, load_requests

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns


def load_log(path: Path, signature: Signature | None) -> RequestBatch:
    """Read recorded requests.

    Args:
        path: ``.parquet``, or safetensors as `rankers.requests.save_requests` wrote.
        signature: The features to read; Parquet needs it to tell user from item columns.

    Raises:
        UserError: The file is missing or damaged, a feature is missing, or values do not fit it.
    """
    if path.suffix != ".parquet":
        batch = load_requests(path)
        if signature is not None:
            batch.check(signature)
        return batch
    if signature is None:
        raise UserError(
            f"{path}: the target does not say its features, which a Parquet log needs: give "
            "requests as safetensors"
        )
    return _from_parquet(path, signature)


def _from_parquet(path: Path, signature: Signature) -> RequestBatch:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        for feature in signature.features:
            if feature.name not in names:
                raise UserError(f"{path}: has no column {feature.name!r}; it has {names[:12]}")
        table = pq.read_table(path, columns=[each.name for each in signature.features])
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: cannot be read as Parquet: {error}") from error
    columns = {name: table[name].combine_chunks() for name in table.column_names}
    items: Columns = {}
    offsets: Array | None = None
    for feature in signature.item:
        column = columns[feature.name]
        if not _is_list(column.type):
            raise UserError(
                f"{path}: item feature {feature.name!r} is a column of {column.type}; expected "
                "lists with an entry for each candidate"
            )
        ends = np.concatenate(
            [[0], np.cumsum(column.value_lengths().to_numpy(zero_copy_only=False))]
        )
        if offsets is not None and not np.array_equal(ends, offsets):
            raise UserError(
                f"{path}: item features {signature.item[0].name!r} and {feature.name!r} have lists "
                "of different lengths in the same row"
            )
        offsets = ends
        items[feature.name] = _values(path, feature, column.flatten(), int(ends[-1]))
    user = {
        each.name: _values(path, each, columns[each.name], len(table)) for each in signature.user
    }
    batch = RequestBatch(user, items, np.asarray(offsets, dtype=np.int64))
    batch.check(signature)
    return batch


def _values(path: Path, feature: Feature, column: Any, rows: int) -> Array:
    """Return Arrow values, in lists where the feature has a shape, as ``[rows, …]``."""
    while _is_list(column.type):
        column = column.flatten()
    values = column.to_numpy(zero_copy_only=False)
    expected = rows * feature.width
    if column.null_count or values.dtype.kind not in "biuf" or len(values) != expected:
        raise UserError(
            f"{path}: feature {feature.name!r} holds {len(values)} values of {column.type}, "
            f"{column.null_count} of them empty; expected {expected} of {feature.dtype}"
        )
    if values.dtype.kind == "f" and not feature.dtype.startswith("float"):
        raise UserError(f"{path}: feature {feature.name!r} holds fractions; it is {feature.dtype}")
    return np.ascontiguousarray(values.reshape(rows, *feature.shape).astype(feature.dtype))


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )
