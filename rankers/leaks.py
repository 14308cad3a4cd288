"""Requests that are judged on must not be those that something was fitted to.

Scales, bins and recalibrations are fitted to calibration requests. If a request is among those and
among the evaluation requests too, the gates judge a stage on what it has already seen. Content
decides, not a name or a file: a copy, with or without labels or with its candidates in another
order, is the same request.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.requests import Array, RequestBatch

_NAMED = 5  # requests that a message names


def check_held_out(calibration: RequestBatch, evaluation: RequestBatch) -> None:
    """Check that no calibration request is an evaluation request.

    Args:
        calibration: What something is fitted to; labels do not matter.
        evaluation: What it is judged on, of the same features.

    Raises:
        UserError: Some are; the message names them by their numbers in both.
    """
    leaked = leaked_requests(calibration, evaluation)
    if not len(leaked):
        return
    named = ", ".join(f"{here} (evaluation request {there})" for here, there in leaked[:_NAMED])
    more = f" and {len(leaked) - _NAMED} more" if len(leaked) > _NAMED else ""
    raise UserError(
        f"{len(leaked)} of {len(calibration)} calibration requests are evaluation requests too: "
        f"{named}{more}; calibrate on requests that are held out of the evaluation"
    )


def leaked_requests(calibration: RequestBatch, evaluation: RequestBatch) -> Array:
    """Find calibration requests that are evaluation requests.

    Returns:
        int64 ``[leaked, 2]``: the number of each among the calibration requests, ascending, and
        among the evaluation requests (the first, if it is there more than once).
    """
    known: dict[bytes, int] = {}
    for number, content in enumerate(request_hashes(evaluation)):
        known.setdefault(content, number)
    found = [
        (number, known[content])
        for number, content in enumerate(request_hashes(calibration))
        if content in known
    ]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def request_hashes(requests: RequestBatch) -> list[bytes]:
    """Return a fingerprint of what each request holds: its user and its candidates in any order.

    Labels are no part of it: they are not what a ranker reads.
    """
    users = _row_hashes(requests.user, len(requests))
    items = _row_hashes(requests.items, requests.rows)
    found = []
    for request, (start, stop) in enumerate(
        zip(requests.offsets[:-1], requests.offsets[1:], strict=True)
    ):
        digest = hashlib.blake2b(users[request], digest_size=16)
        for item in sorted(items[start:stop]):
            digest.update(item)
        found.append(digest.digest())
    return found


def _row_hashes(columns: Mapping[str, Array], rows: int) -> list[bytes]:
    """Hash each row of all columns, whatever order they are in."""
    # Names and types are part of a row: an ID 3 of one feature is not an ID 3 of another.
    if not rows:
        return []
    ordered = sorted(columns.items())
    header = repr([(name, column.dtype.str, column.shape[1:]) for name, column in ordered])
    flat = [np.ascontiguousarray(x).reshape(rows, -1).view(np.uint8) for _, x in ordered]
    joined = np.concatenate(flat, axis=1) if flat else np.zeros((rows, 0), np.uint8)
    start = hashlib.blake2b(header.encode(), digest_size=16)
    found = []
    for row in joined:
        digest = start.copy()
        digest.update(row.tobytes())
        found.append(digest.digest())
    return found
