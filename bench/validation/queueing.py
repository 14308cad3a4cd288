"""Queues whose response times are known: M/M/1 and M/D/1, by formula and by simulation.

One server, Poisson arrivals, first come first served; service times exponential (M/M/1) or all the
same (M/D/1). Times are in the unit of the mean service time unless said otherwise.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rankers.requests import Array


def simulate(arrivals: Array, service: Array) -> Array:
    """Return each request's response time: Lindley's recursion, ``[count]``.

    Args:
        arrivals: When each arrives, ascending, ``[count]``.
        service: How long each is served, ``[count]``.
    """
    # W[k+1] = max(0, W[k] + S[k] - gap[k+1]): a walk, less the lowest point that it has reached.
    walk = np.concatenate([[0.0], np.cumsum(service[:-1] - np.diff(arrivals))])
    response: Array = walk - np.minimum.accumulate(walk) + service
    return response


def mm1_percentile(load: float, quantile: float) -> float:
    """Return a percentile of the response time of M/M/1, which is exponential."""
    return -math.log(1 - quantile) / (1 - load)


def md1_mean(load: float) -> float:
    """Return the mean response time of M/D/1, by Pollaczek and Khinchine."""
    return 1 + load / (2 * (1 - load))


def md1_percentile(load: float, quantile: float) -> float:
    """Return a percentile of the response time of M/D/1, to 1e-9 of a service time."""
    low, high = 1.0, 2.0
    while md1_response_cdf(load, high) < quantile:
        low, high = high, 2 * high
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if md1_response_cdf(load, middle) < quantile else (low, middle)
    return high


def md1_response_cdf(load: float, response: float) -> float:
    """Return the share of requests of M/D/1 that are answered within a time.

    Erlang's formula for it has alternating terms that cancel; this one (Franx 2001) has positive
    ones only: over the numbers of requests that wait, when the next service ends.
    """
    waiting = response - 1
    if waiting < 0:
        return 0.0
    periods = math.floor(waiting) + 1
    at_most = np.cumsum(_in_system(load, periods))[1:]  # so many wait at most: 0, 1, …
    left = load * (periods - waiting)
    arrived = np.exp(-left + np.arange(periods) * math.log(left) - _log_factorials(periods))
    return float(arrived @ at_most[periods - 1 :: -1][:periods])


def _in_system(load: float, most: int) -> Array:
    """Return the chances of 0 … ``most`` requests in an M/D/1 system, ``[most + 1]``.

    What leads up over a level is as frequent as what leads down: all terms are positive.
    """
    counts = np.arange(most + 2)
    arrivals = np.exp(-load + counts * math.log(load) - _log_factorials(most + 2))
    above = 1 - np.cumsum(arrivals)  # more than so many arrive in one service
    chances = np.zeros(most + 1)
    chances[0] = 1 - load
    for level in range(1, most + 1):
        up = chances[0] * above[level - 1]
        up += float(chances[1:level] @ above[level - 1 : 0 : -1])
        chances[level] = up / arrivals[0]
    return chances


def _log_factorials(count: int) -> Array:
    return np.array([math.lgamma(each + 1) for each in range(count)])
