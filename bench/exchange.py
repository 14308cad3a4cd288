"""The exchange test: if two targets are the same, their names can be exchanged in any round.

Only the drawn order decided which of the two came first in a round. So the test asks how unusual
their difference is among all those that exchanging their names within rounds would give (a
randomization test, Fisher 1935). It needs no normal distribution, no independence within a round
and no quiet machine: what drifts from round to round is exchanged along. An interval holds every
shift of one target's values with which the test cannot tell the two apart.

For a percentile the test counts, in each round, how many more values of one than of the other are
above the percentile of all together. Under the exchange these counts have random signs; their
signed ranks are summed, as in Wilcoxon's test. A percentile of each round is not needed: rounds can
be short, which is what takes drift out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rankers.requests import Array

# With more of them the normal distribution is close enough.
_EXACT_ROUNDS = 20


class Shift:
    """By how much one target's values lie above the other's at a quantile.

    Args:
        ours: The values of each round, ``[count]``.
        theirs: The other's, of the same rounds.
        quantile: Such as 0.99.
    """

    def __init__(self, ours: Sequence[Array], theirs: Sequence[Array], quantile: float) -> None:
        self._ours, self._theirs = np.concatenate(ours), np.concatenate(theirs)
        self._our_rounds = np.repeat(np.arange(len(ours)), [len(each) for each in ours])
        self._their_rounds = np.repeat(np.arange(len(theirs)), [len(each) for each in theirs])
        self._our_sizes = np.array([len(each) for each in ours])
        self._their_sizes = np.array([len(each) for each in theirs])
        self._rounds = len(ours)
        self._quantile = quantile
        spread = max(float(np.ptp(self._ours)), float(np.ptp(self._theirs)), 1e-12)
        centre = float(np.median(self._ours) - np.median(self._theirs))
        self._bounds = (centre - 2 * spread, centre + 2 * spread)

    def estimate(self) -> float:
        """Return the shift at which neither target has more values above the quantile."""
        return _crossing(lambda shift: self._scores(shift).sum() > 0, self._bounds)

    def interval(self, doubt: float) -> tuple[float | None, float | None]:
        """Return the least and largest shift that the test does not reject.

        Args:
            doubt: How often the interval may miss, over both ends.

        Returns:
            None for an end that there are too few rounds or values to know.
        """
        if self._rounds < least_rounds(doubt):
            return None, None
        lowest, highest = self._bounds
        low = high = None
        # Where even the farthest shift is not rejected, as with few rounds of few values above the
        # percentile, there is no end.
        if self._rejects(lowest, 1, doubt):
            low = _crossing(lambda shift: self._rejects(shift, 1, doubt), self._bounds)
        if self._rejects(highest, -1, doubt):
            high = _crossing(lambda shift: not self._rejects(shift, -1, doubt), self._bounds)
        return low, high

    def _rejects(self, shift: float, sign: int, doubt: float) -> bool:
        return chance_of_sum(sign * self._scores(shift)) <= doubt / 2

    def _scores(self, shift: float) -> Array:
        """Return signed ranks of how many more of our values than of theirs lie above: int [≤ R].

        Ranks, as in Wilcoxon's test, so that a round that a stall has ruined does not decide.
        """
        moved = self._ours - shift
        both = np.concatenate([moved, self._theirs])
        rank = math.ceil(round(self._quantile * len(both), 9)) - 1
        bound = np.partition(both, rank)[rank]
        above = np.bincount(self._our_rounds[moved > bound], minlength=self._rounds)
        below = np.bincount(self._their_rounds[self._theirs > bound], minlength=self._rounds)
        return _signed_ranks(above / self._our_sizes - below / self._their_sizes)


def least_rounds(doubt: float) -> int:
    """Return with how many rounds some order of names is rare enough to be told from chance."""
    return math.ceil(1 - math.log2(doubt))


def chance_of_sum(values: Array) -> float:
    """Return how likely a sum at least as large is when every value's sign is thrown anew.

    Exactly for few rounds; for many by the normal distribution, which is no smaller in the tail.

    Args:
        values: Whole numbers, int ``[R]``.
    """
    if not values.any():
        return 1.0
    if len(values) > _EXACT_ROUNDS:
        from scipy.stats import norm

        return float(norm.sf(values.sum() / math.sqrt(float(values @ values))))
    sizes = np.abs(values)
    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)  # of the sums -reach … reach
    chances[reach] = 1.0
    for size in sizes[sizes > 0].tolist():
        up, down = np.zeros_like(chances), np.zeros_like(chances)
        up[size:], down[:-size] = chances[:-size], chances[size:]
        chances = (up + down) / 2
    return float(chances[reach + int(values.sum()) :].sum())


def _crossing(is_left: Callable[[float], bool], bounds: tuple[float, float]) -> float:
    """Return where a condition that holds on the left ceases to, by bisection."""
    low, high = bounds
    for _ in range(28):
        middle = (low + high) / 2
        low, high = (middle, high) if is_left(middle) else (low, middle)
    return (low + high) / 2


def _signed_ranks(excess: Array) -> Array:
    from scipy.stats import rankdata

    apart = excess[excess != 0]
    # Twice the rank, for ties have halves.
    ranks: Array = (2 * rankdata(np.abs(apart)) * np.sign(apart)).astype(np.int64)
    return ranks
