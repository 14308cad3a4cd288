"""Capacity: the highest Poisson rate at which a target holds its objective.

A closed loop says about how much the target can do; from there the rate is doubled or halved until
it has a rate that holds below it and one that does not above it, and bisected until the two are
within 5 %. A rate holds when MLPerf's early-stopping rule says so. One that is undecided gets one
longer run, not more of the same, so that no rate is asked until it says yes; still undecided, it
does not hold: a capacity is what was shown. Rates beyond the capacity are measured too, for what a
service does when it has too much to do is part of what it can do.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bench.early_stopping import requests_needed
from bench.measure import Load, measure
from bench.validity import LARGEST_LAG_SHARE
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.early_stopping import Verdict
    from bench.measurement import Measurement
    from bench.slo import Slo
    from bench.targets import Target
    from bench.workload import Workload

# Rates that differ by less are the same to anyone who plans with them.
RESOLUTION = 1.05
_BEYOND = (1.25, 1.6)
_PROBED = 200
_LOWEST_SHARE = 1 / 64  # of the closed loop's rate: a target that cannot do this cannot do any


@dataclass(frozen=True, slots=True)
class Point:
    """What a target did at one rate.

    Attributes:
        rate_per_s: Of the Poisson arrivals.
        verdict: Whether the objective holds there.
        goodput_per_s: Requests answered within the objective's bound, per second.
        generator_is_late: Whether the generator's own lag is too large a part of the bound.
        measurement: All else.
    """

    rate_per_s: float
    verdict: Verdict
    goodput_per_s: float
    generator_is_late: bool
    measurement: Measurement

    @property
    def holds(self) -> bool:
        """Whether the objective was shown to hold."""
        return self.verdict.answer == "holds"

    def to_json(self) -> dict[str, Any]:
        """Return the point as JSON-ready data."""
        return {
            "rate_per_s": self.rate_per_s,
            "verdict": self.verdict.to_json(),
            "goodput_per_s": self.goodput_per_s,
            "generator_is_late": self.generator_is_late,
            "measurement": self.measurement.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a target can do within an objective.

    Attributes:
        slo: The objective.
        rate_per_s: The highest rate that was shown to hold; None if none was.
        limit_per_s: The lowest rate above it that did not; None if every rate held.
        points: Every rate that was measured, ascending.
        remark: What the reader must know of the answer; may be empty.
    """

    slo: Slo
    rate_per_s: float | None
    limit_per_s: float | None
    points: tuple[Point, ...]
    remark: str

    @property
    def text(self) -> str:
        """The answer in one line."""
        if self.rate_per_s is None:
            said = f"{self.slo.text} was not shown to hold at any rate"
        else:
            said = f"{self.slo.text} holds up to {self.rate_per_s:,.4g} requests/s"
        return f"{said}: {self.remark}" if self.remark else said

    def to_json(self) -> dict[str, Any]:
        """Return answer and curve as JSON-ready data."""
        return {
            "kind": "rankserve-capacity",
            "schema": 1,
            "slo": self.slo.to_json(),
            "rate_per_s": self.rate_per_s,
            "limit_per_s": self.limit_per_s,
            "text": self.text,
            "points": [each.to_json() for each in self.points],
        }


def find_capacity(
    target: Target,
    workload: Workload,
    slo: Slo,
    *,
    budget_s: float = 120.0,
    workers: int | None = None,
    warmup: int = 100,
    seed: int = 0,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Capacity:
    """Find the highest Poisson rate at which a target holds an objective.

    Args:
        target: What to load.
        workload: What to send.
        slo: The objective.
        budget_s: About how long it may take. When it is spent, what was shown by then is the
            answer. It is overrun by one run at most, longer where the target hangs.
        workers: Requests that can be under way at once, as for `bench.measure.Load`.
        warmup: Requests before each run.
        seed: Of the arrivals.
        command: What reproduces it.
        say: Is told of each rate before it is tried.

    Raises:
        UserError: The target does not score, or the budget is not above 0.
    """
    if budget_s <= 0:
        raise UserError(f"a budget of {budget_s:g} s was given; it must be above 0")
    search = _Search(
        target, workload, slo, budget_s, Load(workers=workers, warmup=warmup, seed=seed),
        command, say,
    )  # fmt: skip
    return search.run()


class _Search:
    """The rates tried so far, and the clock."""

    def __init__(
        self,
        target: Target,
        workload: Workload,
        slo: Slo,
        budget_s: float,
        load: Load,
        command: str,
        say: Callable[[str], None],
    ) -> None:
        self._target, self._workload, self._slo = target, workload, slo
        self._load, self._command, self._say = load, command, say
        self._until = time.monotonic() + budget_s
        self._longest_run_s = budget_s / 10
        self._points: dict[float, Point] = {}

    def run(self) -> Capacity:
        probed = self._closed_loop_rate()
        low, high = self._bracket(probed)
        while low and high and high / low > RESOLUTION and not self._out_of_time():
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self._try(middle).holds else (low, middle)
        for beyond in _BEYOND if low else ():
            if not self._out_of_time():
                self._try(low * beyond)
        points = tuple(self._points[rate] for rate in sorted(self._points))
        return Capacity(self._slo, low, high, points, self._remark(low, high))

    def _closed_loop_rate(self) -> float:
        """Return about how many requests per second the target can do."""
        load = replace(
            self._load, count=_PROBED, concurrency=self._target.instances or 4, warmup=50
        )
        found = measure(self._target, self._workload, load)
        if not found.counts.ok:
            raise UserError(
                f"target {self._target.name!r} failed every request: {found.error_messages[0]}"
            )
        return found.requests_per_s

    def _bracket(self, probed: float) -> tuple[float | None, float | None]:
        """Return a rate that holds and one that does not, or None for what was not found."""
        low: float | None = None
        high: float | None = None
        rate = _round(probed / 2)
        while not self._out_of_time() and (low is None or high is None):
            if self._try(rate).holds:
                low, rate = rate, rate * 2 if high is None else rate
            else:
                high = rate
                if low is None and rate < probed * _LOWEST_SHARE:
                    break
                rate = rate / 2
        return low, high

    def _try(self, rate: float) -> Point:
        """Measure at a rate: until it is decided, in one run or a longer second one."""
        least = 2 * requests_needed(1, self._slo.quantile)
        point = self._measure(rate, least)
        more = point.verdict.more
        if point.verdict.answer == "undecided" and more is not None and not self._out_of_time():
            most = int(rate * self._longest_run_s)
            if min(most, least + more) > 1.2 * least:
                # What the first run lacked, and a third as much again for luck.
                point = self._measure(rate, min(most, least + more + (least + more) // 3))
        self._points[rate] = point
        return point

    def _measure(self, rate: float, count: int) -> Point:
        count = max(1, min(count, int(rate * self._longest_run_s)))
        self._say(f"{rate:,.4g} requests/s: {count:,} requests")
        load = replace(
            self._load, count=count, rate_per_s=rate, seed=self._load.seed + len(self._points)
        )
        found = measure(self._target, self._workload, load, command=self._command)
        lag_ms = found.lag.point_us(0.99) / 1e3 if found.lag.count else 0.0
        return Point(
            rate_per_s=rate,
            verdict=self._slo.judge(found),
            goodput_per_s=self._slo.met(found) / found.duration_s if found.duration_s else 0.0,
            generator_is_late=lag_ms > LARGEST_LAG_SHARE * self._slo.bound_ms,
            measurement=found,
        )

    def _out_of_time(self) -> bool:
        return time.monotonic() > self._until

    def _remark(self, low: float | None, high: float | None) -> str:
        failed = self._points.get(high) if high is not None else None
        if failed is not None and failed.generator_is_late:
            return (
                "the generator's own lag is above 5 % of the bound beyond it and may be the limit; "
                "give it a core of its own"
            )
        if low is None:
            lowest = min(self._points) if self._points else None
            if lowest is None:
                return "there was no time for a single rate; give a larger --budget"
            verdict = self._points[lowest].verdict
            if verdict.answer == "undecided":
                return f"at {lowest:,.4g}/s it is undecided; give a larger --budget"
            return f"even {lowest:,.4g} requests/s is too much for it"
        if high is None:
            return "no rate was found that is too much; give a larger --budget"
        if failed is not None and failed.verdict.answer == "undecided":
            return f"{high:,.4g}/s is undecided; a larger --budget may find more"
        if high / low > RESOLUTION * 1.001:
            return f"the limit lies below {high:,.4g}/s; a larger --budget finds it closer"
        return ""


def _round(rate: float) -> float:
    """Return a rate with two significant digits: the search starts where people would."""
    return float(f"{rate:.2g}")
