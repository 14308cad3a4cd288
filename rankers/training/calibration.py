"""A sample of the training requests that goes with the ranker: what later steps may learn from.

Quantization reads the ranges of activations off it, and it is never what the ranker is judged by.
"""

from __future__ import annotations

import numpy as np

from rankers.leaks import leaked_requests
from rankers.requests import RequestBatch

REQUESTS = 256
# As many candidates as tell a layer's range; a request with 700 would outweigh thirty with 20.
ROWS_OF_A_REQUEST = 64


def calibration_sample(
    learned: RequestBatch, held_out: RequestBatch, *, seed: int
) -> RequestBatch | None:
    """Draw requests that were trained on, each with a draw of its candidates.

    Every request counts alike, however many candidates it had. Requests that also lie among those
    held out are left out.

    Args:
        learned: What was trained on.
        held_out: What judges the ranker.
        seed: Of the draw.

    Returns:
        At most `REQUESTS` requests of at most `ROWS_OF_A_REQUEST` candidates, in the order of time;
        None where nothing is left.
    """
    random = np.random.default_rng((seed, 2))
    drawn = random.permutation(len(learned))[: 2 * REQUESTS]
    sample = learned.select(drawn)
    kept = np.setdiff1d(np.arange(len(drawn)), leaked_requests(sample, held_out)[:, 0])[:REQUESTS]
    sample = learned.select(np.sort(drawn[kept]))
    thinned = _thinned(sample, random)
    # Of a short list thinning may leave what another, held-out one was from the first.
    kept = np.setdiff1d(np.arange(len(thinned)), leaked_requests(thinned, held_out)[:, 0])
    return thinned.select(kept) if len(kept) else None


def _thinned(requests: RequestBatch, random: np.random.Generator) -> RequestBatch:
    """Leave each request a draw of its candidates, in their order."""
    rows, counts = [np.empty(0, np.int64)], []
    for start, count in zip(requests.offsets[:-1], requests.candidates, strict=True):
        drawn = random.permutation(count)[:ROWS_OF_A_REQUEST]
        rows.append(start + np.sort(drawn))
        counts.append(len(drawn))
    chosen = np.concatenate(rows)
    return RequestBatch(
        user=requests.user,
        items={name: column[chosen] for name, column in requests.items.items()},
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        labels=None if requests.labels is None else requests.labels[chosen],
    )
