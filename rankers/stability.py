"""How far each request's ranking moved, which needs no labels: top-k overlap and Kendall's τ.

Candidates whose scores differ by less than rounding (`rankers.rounding`) have no order of their
own: that two of them are swapped is no change.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rankers.intervals import Interval, percentile_interval, request_draws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array

# Pairs grow with the square of the candidates: of a request of more, evenly spaced ranks tell.
MOST_CANDIDATES = 1000
_WORST = 0.1


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of requests, with what rounding may do to each.

    Attributes:
        values: ``[ΣN]``, finite.
        rounding: How far each may move by rounding alone, ``[ΣN]``.
    """

    values: Array
    rounding: Array

    def requests(self, offsets: Array) -> Iterator[Scores]:
        """Yield each request's."""
        for start, stop in itertools.pairwise(offsets):
            yield Scores(self.values[start:stop], self.rounding[start:stop])


def top_k_overlap(reference: Scores, scores: Scores, offsets: Array, k: int) -> Array:
    """Return which share of each request's first k are among the reference's first k.

    A candidate whose reference score lies below the k-th best by rounding alone is as good as that.
    Candidates that tie for the last places share them.

    Returns:
        float64 ``[R]``; nan for a request of k candidates or fewer, of which all are the first k.
    """
    pairs = zip(reference.requests(offsets), scores.requests(offsets), strict=True)
    return np.array([_overlap(old, new.values, k) for old, new in pairs])


def kendall(reference: Scores, scores: Scores, offsets: Array, *, of: Array | None = None) -> Array:
    """Return Kendall's τ-b of each request: 1 for the same order, -1 for the reverse.

    The general correlation coefficient (Daniels, Biometrika 1944) of the signs of all pairs, where
    a pair that rounding could swap has the sign 0. Requests of more than 1,000 candidates are
    judged on 1,000 evenly spaced ranks of the reference.

    Args:
        reference: The original's.
        scores: The other's.
        offsets: Request r holds the candidates ``offsets[r]:offsets[r + 1]``, ``[R + 1]``.
        of: Which candidates to look at, bool ``[ΣN]``, by default all: how each of them stands to
            all candidates of its request.

    Returns:
        float64 ``[R]``; nan where the reference has no order to keep.
    """
    chosen = np.ones(len(reference.values), bool) if of is None else of
    found = np.full(len(offsets) - 1, np.nan)
    parts = zip(reference.requests(offsets), scores.requests(offsets), strict=True)
    for request, (old, new) in enumerate(parts):
        looked_at = chosen[offsets[request] : offsets[request + 1]]
        if looked_at.any():
            found[request] = _tau(old, new, looked_at)
    return found


def worst_tenth(values: Array) -> float:
    """Return the mean over the tenth of the requests that is lowest, of values ``[R]``."""
    return float(_worst_over_draws(np.sort(values), np.ones((1, len(values))))[0])


def mean_and_worst(
    values: Array, *, resamples: int, confidence: float = 0.95, seed: int = 0
) -> tuple[Interval, Interval]:
    """Return the mean over requests and that over the worst tenth, with bootstrap intervals.

    Args:
        values: Of each request, ``[R]``, at least one, finite.
        resamples: How many times requests are drawn anew.
        confidence: Of the intervals.
        seed: Of those draws.
    """
    ascending = np.sort(values)
    mean, worst = float(np.mean(ascending)), worst_tenth(ascending)
    if ascending[0] == ascending[-1]:
        return Interval(mean, mean, mean), Interval(worst, worst, worst)
    means, tails = [], []
    for draws in request_draws(len(values), resamples, seed, rows=2 * len(values)):
        means.append(draws @ ascending / len(values))
        tails.append(_worst_over_draws(ascending, draws))
    return (
        percentile_interval(mean, np.concatenate(means), confidence),
        percentile_interval(worst, np.concatenate(tails), confidence),
    )


def _worst_over_draws(ascending: Array, draws: Array) -> Array:
    """Return the mean of the lowest tenth by weight on each of ``draws`` ``[block, R]``."""
    until = np.cumsum(draws, axis=1)
    share = _WORST * until[:, -1:]
    taken = np.clip(share - (until - draws), 0, draws)  # of the last one a part
    result: Array = taken @ ascending / share[:, 0]
    return result


def _overlap(reference: Scores, scores: Array, k: int) -> float:
    if len(scores) <= k:
        return np.nan
    last = np.argpartition(-reference.values, k - 1)[k - 1]
    lowest = reference.values[last] - reference.rounding[last]
    good = reference.values + reference.rounding >= lowest
    bound = -np.partition(-scores, k - 1)[k - 1]
    above, tied = scores > bound, scores == bound
    share = (k - above.sum()) / tied.sum()  # of the tied ones' places among the first k
    return float((good[above].sum() + share * good[tied].sum()) / k)


def _tau(reference: Scores, scores: Scores, looked_at: Array) -> float:
    if len(looked_at) > MOST_CANDIDATES:
        order = np.argsort(reference.values, kind="stable")
        spaced = order[np.linspace(0, len(order) - 1, MOST_CANDIDATES).astype(np.int64)]
        reference = Scores(reference.values[spaced], reference.rounding[spaced])
        scores = Scores(scores.values[spaced], scores.rounding[spaced])
        looked_at = looked_at[spaced]
    old, told = _signs(reference, looked_at)
    old *= told
    ordered = float(np.square(old).sum())
    if not ordered:
        return np.nan
    if np.array_equal(reference.values, scores.values):
        return 1.0
    new, told = _signs(scores, looked_at)
    new *= told | (new == old)  # scores drawn together, but in order, are in order
    kept = float(np.square(new).sum())
    return float((old * new).sum() / np.sqrt(ordered * kept)) if kept else 0.0


def _signs(scores: Scores, looked_at: Array) -> tuple[Array, Array]:
    """Return the sign of each pair's difference, and whether it is more than rounding.

    Both are ``[chosen, N]``, float32 and bool.
    """
    differences = scores.values[looked_at, None] - scores.values
    told = np.abs(differences) > scores.rounding[looked_at, None] + scores.rounding
    return np.sign(differences).astype(np.float32), told
