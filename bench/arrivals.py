"""Arrival schedules: when each request of an open loop is due, drawn before the run begins.

A schedule is float64 ``[count]`` seconds after the load's beginning, ascending. Drawing it in
advance makes two runs send at the same moments and keeps random numbers out of the timed section.

Patterns have texts, for command lines and results files: ``poisson``, ``constant``,
``bursts:factor=4,share=0.1,length_s=0.2``, ``ramp:to=400`` and ``replay:trace.jsonl``. The rate
given with one is always the rate of the whole schedule's arrivals on average, except for a ramp,
which begins at it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.arrival_trace import load_trace
from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rankers.requests import Array

Pattern = str
"""The text of a pattern: its name and, after a colon, its settings."""


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


def bursts(
    rate_per_s: float,
    *,
    count: int,
    seed: int,
    factor: float = 4.0,
    share: float = 0.1,
    length_s: float = 0.2,
) -> Array:
    """Draw arrivals that come in bursts: a Poisson process that changes between two rates.

    Bursts and the calm between them last exponentially long (a Markov-modulated Poisson process of
    two states), so that none can be foreseen.

    Args:
        rate_per_s: On average, bursts and calm together.
        count: How many arrivals.
        seed: Of the draw.
        factor: A burst's rate in multiples of the average.
        share: Of the time that bursts take.
        length_s: A burst's length on average.

    Raises:
        UserError: The bursts alone would be more than the average rate, or a setting is not above
            0.
    """
    _check_rate(rate_per_s)
    if not (0 < share < 1 and length_s > 0 and factor >= 1):
        raise UserError(
            f"bursts of factor={factor:g}, share={share:g}, length_s={length_s:g}: the factor is 1 "
            "or more, the share is between 0 and 1, the length is above 0"
        )
    if factor * share > 1:
        raise UserError(
            f"bursts at {factor:g} times the average rate in {share:g} of the time are more than "
            "all arrivals: factor times share is 1 at most"
        )
    random = np.random.default_rng(seed)
    calm_s = length_s * (1 - share) / share
    calm_rate = rate_per_s * (1 - factor * share) / (1 - share)
    burst_rate = rate_per_s * factor
    # Arrivals of a rate that changes are those of rate 1, read on a clock that runs at the rate:
    # the expected number of arrivals up to each change is that clock.
    due = np.cumsum(random.exponential(1.0, count))
    changes, expected = [0.0], [0.0]
    in_burst = bool(random.random() < share)
    while expected[-1] < due[-1]:
        stay = float(random.exponential(length_s if in_burst else calm_s))
        changes.append(changes[-1] + stay)
        expected.append(expected[-1] + stay * (burst_rate if in_burst else calm_rate))
        in_burst = not in_burst
    return np.interp(due, expected, changes)


def ramp(rate_per_s: float, *, to: float, count: int, seed: int) -> Array:
    """Draw Poisson arrivals whose rate goes from ``rate_per_s`` to ``to`` in a straight line.

    It takes as long as ``count`` arrivals last on average; the rate then stays at ``to``.
    """
    _check_rate(rate_per_s)
    _check_rate(to)
    due = np.cumsum(np.random.default_rng(seed).exponential(1.0, count))
    length_s = 2 * count / (rate_per_s + to)
    slope = (to - rate_per_s) / length_s
    # The expected number by time t is rate t + slope t² / 2; this form of its inverse has no
    # cancellation where the slope is near 0.
    within = np.minimum(due, count)
    times: Array = 2 * within / (rate_per_s + np.sqrt(rate_per_s**2 + 2 * slope * within))
    return times + np.maximum(due - count, 0) / to


def replay(trace_s: Array, *, rate_per_s: float, count: int) -> Array:
    """Return recorded arrivals, faster or slower so that they come at a rate on average.

    Args:
        trace_s: Ascending, from 0 (`bench.arrival_trace.load_trace`).
        rate_per_s: To ask for a speed instead, multiply the trace's own rate (`trace_rate`) by it.
        count: The trace begins again where it is shorter.
    """
    _check_rate(rate_per_s)
    speed = rate_per_s / trace_rate(trace_s)
    # From the last arrival to the first of the next time round there is an average gap.
    lap_s = len(trace_s) / trace_rate(trace_s)
    number = np.arange(count)
    laps, places = np.divmod(number, len(trace_s))
    return (laps * lap_s + trace_s[places]) / speed


def trace_rate(trace_s: Array) -> float:
    """Return a trace's own arrivals per second on average."""
    return (len(trace_s) - 1) / float(trace_s[-1])


def draw(pattern: Pattern, rate_per_s: float, *, count: int, seed: int) -> Array:
    """Draw a schedule by the text of its pattern.

    Raises:
        UserError: The pattern or one of its settings is unknown, or the rate is not above 0.
    """
    name, _, settings = pattern.partition(":")
    if name not in _PATTERNS:
        raise UserError(f"unknown arrival pattern {name!r}; {nearest(name, _PATTERNS)}")
    return _PATTERNS[name](settings, rate_per_s, count, seed)


def check_pattern(pattern: Pattern) -> None:
    """Find a mistake in a pattern's text before anything is opened.

    Raises:
        UserError: As for `draw`.
    """
    draw(pattern, 1.0, count=1, seed=0)


def replayed_file(pattern: Pattern) -> Path | None:
    """Return the file of a ``replay`` pattern; None for the others."""
    name, _, settings = pattern.partition(":")
    return Path(settings) if name == "replay" else None


def _poisson(settings: str, rate_per_s: float, count: int, seed: int) -> Array:
    _settings("poisson", settings, {})
    return poisson(rate_per_s, count=count, seed=seed)


def _constant(settings: str, rate_per_s: float, count: int, _seed: int) -> Array:
    _settings("constant", settings, {})
    return constant(rate_per_s, count=count)


def _bursts(settings: str, rate_per_s: float, count: int, seed: int) -> Array:
    known = {"factor": 4.0, "share": 0.1, "length_s": 0.2}
    return bursts(rate_per_s, count=count, seed=seed, **_settings("bursts", settings, known))


def _ramp(settings: str, rate_per_s: float, count: int, seed: int) -> Array:
    to = _settings("ramp", settings, {"to": 0.0})["to"]
    if to <= 0:
        raise UserError("a ramp needs the rate it ends at: ramp:to=400")
    return ramp(rate_per_s, to=to, count=count, seed=seed)


def _replay(settings: str, rate_per_s: float, count: int, _seed: int) -> Array:
    if not settings:
        raise UserError("replay needs a file of arrival times: replay:trace.jsonl")
    return replay(load_trace(Path(settings)), rate_per_s=rate_per_s, count=count)


_PATTERNS: Mapping[str, Callable[[str, float, int, int], Array]] = {
    "poisson": _poisson,
    "constant": _constant,
    "bursts": _bursts,
    "ramp": _ramp,
    "replay": _replay,
}


def _settings(pattern: str, text: str, known: Mapping[str, float]) -> dict[str, float]:
    """Read ``name=number,…``; what is not said keeps its default."""
    found = dict(known)
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise UserError(f"{pattern} arrivals have no setting {name!r}; {nearest(name, known)}")
        try:
            found[name] = float(value)
        except ValueError:
            raise UserError(f"{pattern} arrivals: {name} is {value!r}; it is a number") from None
    return found


def _check_rate(rate_per_s: float) -> None:
    if not 0 < rate_per_s < float("inf"):
        raise UserError(f"a rate of {rate_per_s} requests/s was asked for; it must be above 0")
