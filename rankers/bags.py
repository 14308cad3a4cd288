"""Bags and sequences of IDs: rows of different length in one array, filled up with padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.features import Feature
    from rankers.requests import Array


def pad_bags(
    bags: Sequence[Sequence[int] | Array],
    feature: Feature,
    *,
    keep: Literal["first", "last"] = "last",
) -> Array:
    """Put lists of IDs into rows, each filled up with the feature's padding.

    Args:
        bags: One list of IDs for each row; an empty one gives a row of padding.
        feature: Of shape ``(L,)`` and with ``padding``.
        keep: Which IDs of a list longer than L stay: the ``last`` of a history are its newest.

    Returns:
        The feature's dtype, ``[rows, L]``.

    Raises:
        UserError: The feature has no padding, or a list holds the padding itself.
    """
    padding = feature.padding
    if padding is None:
        raise UserError(f"feature {feature.name!r} has no padding; it cannot hold lists of IDs")
    length = feature.width
    cut = [np.asarray(bag[:length] if keep == "first" else bag[-length:]) for bag in bags]
    sizes = np.array([len(bag) for bag in cut], dtype=np.int64)
    rows = np.full((len(cut), length), padding, dtype=feature.dtype)
    if not sizes.any():
        return rows
    values = np.concatenate(cut)
    if (values == padding).any():
        row = int(np.repeat(np.arange(len(cut)), sizes)[np.argmax(values == padding)])
        raise UserError(
            f"feature {feature.name!r} row {row} holds the ID {padding}, which is its padding"
        )
    rows[np.arange(length) < sizes[:, np.newaxis]] = values
    return rows


def bag_sizes(rows: Array, padding: int) -> Array:
    """Return how many IDs each row of ``[rows, L]`` holds, int64 ``[rows]``."""
    sizes: Array = (rows != padding).sum(axis=1)
    return sizes
