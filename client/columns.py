"""Requests out of what callers have: lists, columns of pandas, Polars or Arrow, NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import nearest
from rankers.requests import RankingRequest, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rankers.features import Feature, Signature
    from rankers.requests import Array, Columns


def ranking_request(
    signature: Signature, user: Mapping[str, Any], items: Any, *, labels: Any = None
) -> RankingRequest:
    """Make a request of columns by name.

    Args:
        signature: What the ranker reads.
        user: The user's value of each feature: a number, or a list for one that holds several.
        items: One column a feature, with a value a candidate: a mapping of lists or arrays, a
            pandas or Polars frame, an Arrow table. Further columns are not read.
        labels: Kept with the request, not sent.

    Raises:
        RequestError: A feature is missing, or its values do not become its dtype without loss.
    """
    columns = {each.name: _found(items, each) for each in signature.item}
    counts = {name: _length(column) for name, column in columns.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name!r} has {count}" for name, count in counts.items())
        raise RequestError(f"the candidates' columns are of different lengths: {said}")
    return RankingRequest(
        user={each.name: _column(each, [_found(user, each)]) for each in signature.user},
        items=_columns(signature.item, columns),
        labels=None if labels is None else np.asarray(labels, np.float32),
    )


def _columns(features: Sequence[Feature], columns: Mapping[str, Any]) -> Columns:
    return {each.name: _column(each, columns[each.name]) for each in features}


def _found(columns: Any, feature: Feature) -> Any:
    try:
        return columns[feature.name]
    except (KeyError, IndexError, ValueError) as error:
        names = getattr(columns, "column_names", None) or list(columns)
        raise RequestError(
            f"{feature.side} feature {feature.name!r} is missing; "
            f"{nearest(feature.name, map(str, names))}"
        ) from error


def _length(column: Any) -> int:
    try:
        return len(column)
    except TypeError:
        raise RequestError(
            f"the candidates' columns hold one value a candidate; got {column!r}"
        ) from None


def _column(feature: Feature, values: Any) -> Array:
    """Return ``[rows, …]`` in the feature's dtype.

    Raises:
        RequestError: The values are of another kind or shape, or would lose something.
    """
    try:
        given = np.asarray(values.to_numpy() if hasattr(values, "to_numpy") else values)
        if given.dtype == object:  # rows of lists, which frames keep as objects
            given = np.array(list(given))
    except ValueError as error:
        raise RequestError(
            f"feature {feature.name!r} has rows of different lengths; expected "
            f"{feature.shape or 'one value'} a row: pad them (`rankers.bags`)"
        ) from error
    wanted = np.dtype(feature.dtype)
    if given.dtype.kind in "USO":
        raise RequestError(
            f"feature {feature.name!r} has values such as {given.ravel()[:1].tolist()[0]!r}; "
            f"expected {wanted}: "
            "raw values become IDs as in training by `rankers.data.encode.RequestEncoder`"
        )
    if given.shape[1:] != feature.shape:
        raise RequestError(
            f"feature {feature.name!r} has rows of shape {given.shape[1:]}; "
            f"expected {feature.shape}"
        )
    if given.dtype == wanted:
        return given
    if not _goes_into(given, wanted):
        raise RequestError(
            f"feature {feature.name!r} has {given.dtype} values that are not {wanted}; "
            f"expected {wanted}"
        )
    return given.astype(wanted)


def _goes_into(given: Array, wanted: np.dtype[Any]) -> bool:
    """Tell whether values become another dtype without changing: floats may be rounded."""
    if wanted.kind == "f":
        return given.dtype.kind in "fiub"
    if wanted.kind == "b":
        return given.dtype.kind == "b"
    if given.dtype.kind not in "iub":
        return False
    if not given.size or given.dtype.kind == "b":
        return True
    limits = np.iinfo(wanted)
    return int(given.min()) >= limits.min and int(given.max()) <= limits.max
