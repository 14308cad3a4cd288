"""Calibration requests, cut in those that are learnt from and those that tell when to stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rankers.errors import UserError
from rankers.leaks import request_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array, RequestBatch


def split_requests(requests: RequestBatch, share: float, seed: int) -> tuple[Array, Array]:
    """Draw the requests that are held out; requests of equal content are on the same side.

    Args:
        requests: At least two that differ.
        share: Of the requests that differ, to be held out; at least one is, and one is not.
        seed: Of the draw.

    Returns:
        The numbers of those learnt from and of those held out, int64, ascending.

    Raises:
        UserError: There are not two that differ.
    """
    _, kinds = np.unique(request_hashes(requests), return_inverse=True)
    count = int(kinds.max(initial=-1)) + 1
    if count < 2:
        raise UserError(
            f"fine-tuning needs two calibration requests that differ, one to learn from and one "
            f"to hold out; there are {count} among {len(requests)}"
        )
    taken = int(np.clip(round(share * count), 1, count - 1))
    out = np.random.default_rng((seed, 0)).permutation(count)[:taken]
    held = np.isin(kinds, out)
    return np.flatnonzero(~held), np.flatnonzero(held)


def drawn_batches(requests: Array, size: int, seed: int) -> Iterator[Array]:
    """Yield the numbers of requests for one step after another, for ever.

    Args:
        requests: Numbers to draw from, each once before any comes again.
        size: Of a batch; the last of a pass over all may be smaller.
        seed: Of the order.
    """
    random = np.random.default_rng((seed, 1))
    while True:
        order = random.permutation(requests)
        for start in range(0, len(order), size):
            yield order[start : start + size]
