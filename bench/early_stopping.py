"""MLPerf's early-stopping rule: may a bound on a percentile be said to hold after so many requests?

"p99 ≤ 10 ms" means that at most 1 % of all requests take longer. How many of n requests take
longer is binomial, so the bound holds at a confidence of 99 % once a target that missed the bound
more often would have shown so few misses in fewer than 1 of 100 runs. With no miss that takes 459
requests, with one 662. The rule is that of MLPerf Inference's LoadGen (Reddi et al., 2020, and its
`early_stopping.cc`), computed with the exact binomial distribution.

It takes requests as independent of each other. Those of one queue are not: give the number of
independent ones that they are worth (`bench.effective.effective_count`), with as many misses in
proportion.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIDENCE = 0.99
Answer = Literal["holds", "does not hold", "undecided"]

# A target this close to its bound is not told from one on it by any run that somebody would wait
# for.
_MOST_REQUESTS = 100_000_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bound on a percentile holds.

    Attributes:
        answer: ``holds`` or ``does not hold``, both at the confidence, or ``undecided``.
        requests: That were looked at.
        misses: Of those, the ones over the bound.
        quantile: Such as 0.99.
        confidence: Such as 0.99.
        more: About how many more requests would decide it if misses go on at the same share; 0 when
            it is decided, None when no reasonable number would do.
    """

    answer: Answer
    requests: int
    misses: int
    quantile: float
    confidence: float
    more: int | None

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}

    def text(self, bound: str) -> str:
        """Return such as ``p99 ≤ 10 ms holds at 99 % confidence``, for a bound ``p99 ≤ 10 ms``."""
        if self.answer != "undecided":
            return f"{bound} {self.answer} at {self.confidence * 100:g} % confidence"
        if self.more is None:
            return f"{bound} is undecided: the target is too close to the bound to tell"
        return f"{bound} is undecided: it needs about {self.more:,} more requests"


def judge(
    requests: int, misses: int, quantile: float, *, confidence: float = CONFIDENCE
) -> Verdict:
    """Judge a bound on a percentile by how many requests missed it.

    Args:
        requests: How many there were, those that failed included.
        misses: How many of them took longer than the bound, or failed.
        quantile: Of the bound, in (0, 1): 0.99 for a p99.
        confidence: Of ``holds`` and of ``does not hold``, each.
    """
    if not 0 <= misses <= requests:
        raise ValueError(f"{misses} misses of {requests} requests")
    doubt = 1 - confidence
    if _chance_of_at_most(misses, requests, quantile) <= doubt:
        return Verdict("holds", requests, misses, quantile, confidence, 0)
    if _chance_of_at_least(misses, requests, quantile) <= doubt:
        return Verdict("does not hold", requests, misses, quantile, confidence, 0)
    more = _more_to_decide(requests, misses, quantile, confidence)
    return Verdict("undecided", requests, misses, quantile, confidence, more)


@functools.lru_cache(maxsize=1024)
def requests_needed(misses: int, quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return the least number of requests with which a bound holds in spite of so many misses.

    459 for a p99 with no miss at 99 % confidence, 662 with one, 4,603 for a p99.9 with none.
    """
    doubt = 1 - confidence
    return _least(lambda n: _chance_of_at_most(misses, n, quantile) <= doubt, misses + 1)


def most_misses(requests: int, quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return the most misses with which a bound still holds; -1 if it cannot even with none."""
    if requests < requests_needed(0, quantile, confidence):
        return -1
    return (
        _least(
            lambda misses: _chance_of_at_most(misses, requests, quantile) > 1 - confidence,
            0,
        )
        - 1
    )


def _more_to_decide(requests: int, misses: int, quantile: float, confidence: float) -> int | None:
    """Return how many more requests decide it when misses go on at the share seen so far."""
    share, doubt = misses / requests if requests else 0.0, 1 - confidence

    def decided(total: int) -> bool:
        # Up where that speaks against `holds`, down where it speaks against `does not hold`.
        if share < 1 - quantile:
            expected = math.ceil(round(share * total, 6))
            return _chance_of_at_most(expected, total, quantile) <= doubt
        return _chance_of_at_least(math.floor(share * total), total, quantile) <= doubt

    if not decided(_MOST_REQUESTS):
        return None
    return _least(decided, requests + 1) - requests


def _least(is_enough: Callable[[int], bool], start: int) -> int:
    """Return the least number from ``start`` on that is enough, by doubling and bisection."""
    if is_enough(start):
        return start
    low, high = start, max(2 * start, 2)
    while not is_enough(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def _chance_of_at_most(misses: int, requests: int, quantile: float) -> float:
    """Return how likely so few misses are if the share of misses is just what the bound allows."""
    from scipy.stats import binom

    return float(binom.cdf(misses, requests, 1 - quantile))


def _chance_of_at_least(misses: int, requests: int, quantile: float) -> float:
    from scipy.stats import binom

    return float(binom.sf(misses - 1, requests, 1 - quantile))
