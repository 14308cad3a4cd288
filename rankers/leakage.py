"""Whether requests that a ranker may learn from also lie among those that judge it."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rankers.requests import Array, RequestBatch


def requests_also_in(requests: RequestBatch, others: RequestBatch) -> Array:
    """Return which of ``requests`` have the content of one of ``others``.

    The content of a request is its user and its candidates, in whatever order, without labels.

    Returns:
        Their places in ``requests``, ascending, int64.
    """
    known = set(_contents(others))
    found = [place for place, each in enumerate(_contents(requests)) if each in known]
    return np.array(found, np.int64)


def _contents(requests: RequestBatch) -> list[bytes]:
    """Return a digest of each request's features."""
    users = _rows_as_bytes(requests.user, len(requests))
    items = _rows_as_bytes(requests.items, requests.rows)
    digests = []
    for place in range(len(requests)):
        start, stop = requests.offsets[place], requests.offsets[place + 1]
        digest = hashlib.sha256(f"{stop - start} {users.shape[1]}\n".encode())
        digest.update(users[place].tobytes())
        for row in sorted(each.tobytes() for each in items[start:stop]):
            digest.update(row)
        digests.append(digest.digest())
    return digests


def _rows_as_bytes(columns: dict[str, Array], rows: int) -> Array:
    """Put columns side by side in the order of their names: uint8 ``[rows, bytes]``."""
    pieces = [np.empty((rows, 0), np.uint8)]
    for _, column in sorted(columns.items()):
        width = math.prod(column.shape[1:])  # not -1: there may be no rows
        pieces.append(np.ascontiguousarray(column).reshape(rows, width).view(np.uint8))
    return np.concatenate(pieces, axis=1)
