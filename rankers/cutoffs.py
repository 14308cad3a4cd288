"""Metrics of the first k places of each request: NDCG@k, MRR@k, recall@k.

Candidates with equal scores have no order of their own. Each metric is its expected value over all
orders of the tied ones, drawn alike: what a server that breaks ties at random gives on average. A
ranker so gains nothing by scoring all candidates the same, and row order changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.intervals import ratio

if TYPE_CHECKING:
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class Ties:
    """The runs of equal scores of all requests, G of them, each request's best first.

    Attributes:
        requests: R.
        request: Of each run, ascending, int64 ``[G]``.
        before: How many candidates of its request score higher, int64 ``[G]``.
        rows: How many candidates it holds, int64 ``[G]``.
        relevant: How many of them have a label above 0, float64 ``[G]``.
        gain: The sum of their labels, float64 ``[G]``.
    """

    requests: int
    request: Array
    before: Array
    rows: Array
    relevant: Array
    gain: Array

    @classmethod
    def of(cls, scores: Array, labels: Array, offsets: Array) -> Ties:
        """Find the runs of scores ``[ΣN]`` in requests."""
        request = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        order = np.lexsort((-scores, request))
        starts = run_starts(request, scores[order])
        sorted_labels = labels[order].astype(np.float64)
        return cls(
            requests=len(offsets) - 1,
            request=request[starts],
            before=starts - offsets[request[starts]],
            rows=np.diff(starts, append=len(order)),
            relevant=np.add.reduceat((sorted_labels > 0).astype(np.float64), starts),
            gain=np.add.reduceat(sorted_labels, starts),
        )

    def sums(self, values: Array) -> Array:
        """Add up values ``[G]`` by request, ``[R]``."""
        found: Array = np.bincount(self.request, weights=values, minlength=self.requests)
        return found


def run_starts(request: Array, scores: Array) -> Array:
    """Return where runs of equal (request, score) begin in sorted rows."""
    changed = (np.diff(request) != 0) | (np.diff(scores) != 0)
    return np.concatenate([[0], np.flatnonzero(changed) + 1])


def ndcg_at(k: int, ranked: Ties, ideal: Ties) -> Array:
    """Return NDCG@k of each request, ``[R]``; nan where nothing is relevant.

    Gains are linear and tied candidates share their mean gain, as scikit-learn's ``ndcg_score`` has
    it (Järvelin and Kekäläinen, TOIS 2002; McSherry and Najork, ECIR 2008).

    Args:
        k: The cutoff.
        ranked: Of the scores.
        ideal: Of the labels as scores.
    """
    return ratio(_dcg_at(k, ranked), _dcg_at(k, ideal))


def mrr_at(k: int, ranked: Ties) -> Array:
    """Return the reciprocal rank of the first relevant candidate, ``[R]``; 0 if it is beyond k.

    nan where nothing is relevant. Of n tied candidates with m relevant ones the first relevant one
    is the (j + 1)-th with probability C(n - 1 - j, m - 1) / C(n, m) (the negative hypergeometric
    distribution), which is summed exactly.
    """
    holding = np.flatnonzero(ranked.relevant > 0)
    which, first = np.unique(ranked.request[holding], return_index=True)
    run = holding[first]  # of each request that has something relevant
    rows, relevant, before = ranked.rows[run], ranked.relevant[run], ranked.before[run]
    chance = relevant / rows  # that the first relevant one is at this place of its run
    expected = np.zeros(len(run))
    for place in range(min(k, int(rows.max(initial=0)))):
        rank = before + place + 1
        expected += np.where(rank <= k, chance / rank, 0.0)
        chance = chance * np.maximum(rows - relevant - place, 0) / np.maximum(rows - 1 - place, 1)
    found = np.full(ranked.requests, np.nan)
    found[which] = expected
    return found


def recall_at(k: int, ranked: Ties) -> Array:
    """Return the share of a request's relevant candidates in its first k places, ``[R]``.

    nan where nothing is relevant.
    """
    within = np.clip(k - ranked.before, 0, ranked.rows) / ranked.rows  # of each run's candidates
    return ratio(ranked.sums(ranked.relevant * within), ranked.sums(ranked.relevant))


def _dcg_at(k: int, ties: Ties) -> Array:
    """Return DCG@k of each request, ``[R]``."""
    longest = min(k, int((ties.before + ties.rows).max(initial=0)))
    discounts = 1 / np.log2(np.arange(longest) + 2.0)
    until = np.concatenate([[0.0], np.cumsum(discounts)])  # the sum of the first places'
    last = np.minimum(ties.before + ties.rows, longest)
    first = np.minimum(ties.before, longest)
    return ties.sums(ties.gain / ties.rows * (until[last] - until[first]))
