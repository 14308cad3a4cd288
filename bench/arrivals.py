"""Arrival schedules: when each request of an open loop is due, drawn before the run begins.

A schedule is float64 ``[count]`` seconds after the load's beginning, ascending. Drawing it in
advance makes two runs send at the same moments and keeps random numbers out of the timed section.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from rankers.requests import Array

Pattern = Literal["poisson", "constant"]


def poisson(rate_per_s: float, *, count: int, seed: int) -> Array:
    """Draw independent arrivals: exponential gaps with a mean of ``1 / rate_per_s``.

    This is what many users who do not know of each other look like. A constant rate is kinder to a
    queue and hides its tail.
    """
    _check_rate(rate_per_s)
    gaps = np.random.default_rng(seed).exponential(1 / rate_per_s, count)
    return np.cumsum(gaps)


def constant(rate_per_s: float, *, count: int) -> Array:
    """Return arrivals at equal gaps of ``1 / rate_per_s``."""
    _check_rate(rate_per_s)
    return np.arange(1, count + 1) / rate_per_s


def draw(pattern: Pattern, rate_per_s: float, *, count: int, seed: int) -> Array:
    """Draw a schedule by the name of its pattern.

    Raises:
        UserError: The pattern is unknown, or the rate is not above 0.
    """
    if pattern == "poisson":
        return poisson(rate_per_s, count=count, seed=seed)
    if pattern == "constant":
        return constant(rate_per_s, count=count)
    raise UserError(
        f"unknown arrival pattern {pattern!r}; {nearest(pattern, ('poisson', 'constant'))}"
    )


def _check_rate(rate_per_s: float) -> None:
    if not 0 < rate_per_s < float("inf"):
        raise UserError(f"a rate of {rate_per_s} requests/s was asked for; it must be above 0")
