"""Paired bootstrap over requests: how sure a difference in ranking quality is.

Requests, not rows, are drawn with replacement, as the candidates of one request depend on each
other. Both rankers are judged on the same draws, so what they have in common cancels: a difference
of 1e-4 in AUC can be told from none where either AUC alone is known to 1e-2 only.
(Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 13: the percentile interval.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rankers.requests import Array

_BLOCK_BYTES = 64 << 20  # what one block of resamples may take
# Requests up to which the AUC of draws goes through a table of all pairs of requests (32 MB).
_LARGEST_PAIR_TABLE = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and its confidence interval, of 95 % unless asked for otherwise.

    Attributes:
        estimate: On all requests as they are.
        low: The lower percentile over resamples: the 2.5th.
        high: The upper one: the 97.5th.
    """

    estimate: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Return the interval as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}


def request_draws(requests: int, resamples: int, seed: int, *, rows: int) -> Iterator[Array]:
    """Draw resamples of requests with replacement, in blocks of bounded memory.

    Args:
        requests: R.
        resamples: How many in all.
        seed: The same seed gives the same draws, whatever the blocks' size.
        rows: ΣN; a metric may need one float64 for each row of each resample in a block.

    Yields:
        How often each request was drawn, float64 ``[block, R]``; each row sums to R.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK_BYTES // (8 * max(rows, 1)))
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = generator.integers(0, requests, (size, requests))
        drawn += np.arange(size)[:, None] * requests  # one histogram for the whole block
        counts = np.bincount(drawn.ravel(), minlength=size * requests)
        yield counts.reshape(size, requests).astype(np.float64)


def percentile_interval(estimate: float, values: Array, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of ``values`` ``[resamples]``, undefined ones left out.

    Where a resample holds no clicks at all, its AUC is undefined. If every resample is, so is the
    interval, and it is as wide as can be.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(estimate, -np.inf, np.inf)
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(estimate, float(low), float(high))


class AUCOverDraws:
    """AUC of rows weighted by how often their request was drawn, with ties counted as half.

    AUC is the share of (positive, negative) pairs in the right order. With negatives sorted once,
    the weight of those below a positive's score is a difference of two cumulative sums, so that a
    resample costs one pass over the rows and is exact.
    """

    def __init__(self, scores: Array, positive: Array, request: Array) -> None:
        order = np.argsort(scores, kind="stable")
        scores, positive, request = scores[order], positive[order], request[order]
        negatives = scores[~positive]
        self.negative_request = request[~positive]
        self.positive_request = request[positive]
        # Negatives strictly below each positive, and negatives not above it.
        self.below = np.searchsorted(negatives, scores[positive], side="left")
        self.up_to = np.searchsorted(negatives, scores[positive], side="right")

        self.in_order: Array | None = None

    def __call__(self, draws: Array) -> Array:
        """Return the AUC on each of ``draws`` ``[block, R]``."""
        if draws.shape[1] > _LARGEST_PAIR_TABLE:
            return self.by_sums(draws)
        if self.in_order is None:
            self.in_order = self.pairs_in_order(draws.shape[1])
        positive = draws @ np.bincount(self.positive_request, minlength=draws.shape[1])
        negative = draws @ np.bincount(self.negative_request, minlength=draws.shape[1])
        ordered = np.einsum("br,rs,bs->b", draws, self.in_order, draws, optimize=True)
        return ratio(ordered, positive * negative)

    def pairs_in_order(self, requests: int) -> Array:
        """Count the ordered pairs of each two requests, ``[R, R]``; a tie counts half.

        Entry (r, s) is how many (positive of r, negative of s) have the positive's score above the
        negative's. The AUC of any draw is a quadratic form of it, some 50 times faster than a pass
        over the rows.
        """
        table = np.zeros((requests, requests))
        order = np.argsort(self.negative_request, kind="stable")
        ends = np.cumsum(np.bincount(self.negative_request, minlength=requests))
        for request, (begin, end) in enumerate(itertools.pairwise((0, *ends))):
            # Places of this request's negatives among all, ascending as the sort is stable.
            places = order[begin:end]
            won = np.searchsorted(places, self.below) + np.searchsorted(places, self.up_to)
            table[:, request] = np.bincount(
                self.positive_request, weights=won / 2, minlength=requests
            )
        return table

    def by_sums(self, draws: Array) -> Array:
        """The same by a pass over the rows for each draw, for more requests than a table holds."""
        below = np.zeros((len(draws), len(self.negative_request) + 1))
        np.cumsum(draws[:, self.negative_request], axis=1, out=below[:, 1:])
        weights = draws[:, self.positive_request]
        won = below[:, self.below]
        won += below[:, self.up_to]
        pairs = weights.sum(axis=1) * below[:, -1]
        numerator = np.einsum("bp,bp->b", weights, won) / 2
        return ratio(numerator, pairs)


class RatioOverDraws:
    """A sum over requests divided by another: a mean over rows, or over requests."""

    def __init__(self, numerator: Array, denominator: Array) -> None:
        self.numerator = numerator  # [R]
        self.denominator = denominator  # [R]

    def __call__(self, draws: Array) -> Array:
        """Return the ratio on each of ``draws`` ``[block, R]``."""
        return ratio(draws @ self.numerator, draws @ self.denominator)


class CalibrationOverDraws:
    """Expected calibration error with bins held fixed: those of all rows.

    Resampling makes every bin's error noisier, so that the error on a resample is larger on average
    than on all rows. Both rankers suffer alike and the difference hardly does.
    """

    def __init__(self, gaps: Array, rows: Array) -> None:
        self.gaps = gaps  # Σ(probability - label) by request and bin, [R, bins]
        self.rows = rows  # N of each request, [R]

    def __call__(self, draws: Array) -> Array:
        """Return the error on each of ``draws`` ``[block, R]``."""
        result: Array = np.abs(draws @ self.gaps).sum(axis=1) / (draws @ self.rows)
        return result


def ratio(numerator: Array, denominator: Array) -> Array:
    """Divide, with nan where the denominator is not above 0."""
    undefined = np.full(len(numerator), np.nan)
    result: Array = np.divide(numerator, denominator, out=undefined, where=denominator > 0)
    return result
