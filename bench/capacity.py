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
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from bench.capacity_curve import Capacity, Point
from bench.early_stopping import requests_needed
from bench.measure import Load, measure
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.slo import Slo
    from bench.targets import Target
    from bench.workload import Workload

# Rates that differ by less are the same to anyone who plans with them.
RESOLUTION = 1.05
_BEYOND = (1.25, 1.6)
_PROBED = 200
# A first run is so long that it holds in spite of so many misses: 1,001 requests for a p99.
_MISSES_ALLOWED = 3
# Of the budget, for the one rate that is hardest to decide.
_LONGEST_SHARE = 1 / 4
# A second run has what the first lacked, and a third as much again for luck: what is lacking is a
# guess, and there is no third. Where time is left it has up to five times as much.
_LUCK = 4 / 3
_MORE_LUCK = 5
_LUCKY_SHARE = 1 / 5  # of the time that is left
# About so many find a capacity.
_RUNS_OF_A_SEARCH = 10
_LOWEST_SHARE = 1 / 64  # of the closed loop's rate: a target that cannot do this cannot do any


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
        UserError: The target does not score, or the budget does not hold even one run.
    """
    search = _Search(
        target=target,
        workload=workload,
        slo=slo,
        load=Load(workers=workers, warmup=warmup, seed=seed),
        command=command,
        say=say,
        until=time.monotonic() + budget_s,
        longest_run_s=budget_s * _LONGEST_SHARE,
    )
    if budget_s < search.sustained_s:
        raise UserError(
            f"a budget of {budget_s:g} s does not hold even one run: at a bound of "
            f"{slo.bound_ms:g} ms each takes {search.sustained_s:.3g} s or more; give --budget "
            f"{math.ceil(_RUNS_OF_A_SEARCH * search.sustained_s)}"
        )
    return search.run()


@dataclass(frozen=True, slots=True)
class _Search:
    """The rates tried so far, and how long there is for more."""

    target: Target
    workload: Workload
    slo: Slo
    load: Load
    command: str
    say: Callable[[str], None]
    until: float
    longest_run_s: float
    points: dict[float, Point] = field(default_factory=dict)

    @property
    def _fewest(self) -> int:
        """How many requests a run has at least."""
        return requests_needed(_MISSES_ALLOWED, self.slo.quantile)

    @property
    def sustained_s(self) -> float:
        """How long a run takes at least.

        Above the capacity a queue grows by the excess: within this time, an excess as large as the
        resolution grows it beyond the bound. A shorter run would hold at rates that nobody can keep
        up.
        """
        return self.slo.bound_ms / 1e3 / (RESOLUTION - 1)

    def run(self) -> Capacity:
        probed = self._closed_loop_rate()
        takes_s = self._fewest / probed * 2
        if takes_s > self._left_s:
            raise UserError(
                f"the budget does not hold even one run: {self._fewest:,} requests at half of what "
                f"it does in a closed loop ({probed:,.3g}/s) take {takes_s:,.0f} s; give --budget "
                f"{math.ceil(_RUNS_OF_A_SEARCH * takes_s)}"
            )
        low, high = self._bracket(probed)
        while low and high and high / low > RESOLUTION and not self._out_of_time():
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self._try(middle).holds else (low, middle)
        if low is not None:
            for beyond in _BEYOND:
                if not self._out_of_time():
                    self._try(low * beyond)
        points = tuple(self.points[rate] for rate in sorted(self.points))
        return Capacity(self.slo, low, high, points, self._remark(low, high))

    def _closed_loop_rate(self) -> float:
        """Return about how many requests per second the target can do."""
        load = replace(self.load, count=_PROBED, concurrency=self.target.instances or 4, warmup=50)
        found = measure(self.target, self.workload, load)
        if not found.counts.ok:
            raise UserError(
                f"target {self.target.name!r} failed every request: {found.error_messages[0]}"
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
                rate = rate / 2
                # Neither a target that cannot do a small part of what it did in the closed loop,
                # nor a rate at which the requests that are needed take too long, is worth more.
                too_long = self._fewest / rate > self._left_s
                if low is None and (rate < probed * _LOWEST_SHARE or too_long):
                    break
        return low, high

    def _try(self, rate: float) -> Point:
        """Measure at a rate: until it is decided, in one run or a longer second one."""
        least = max(self._fewest, math.ceil(rate * self.sustained_s))
        point = self._measure(rate, least)
        more = point.verdict.more
        if point.verdict.answer == "undecided" and more is not None and not self._out_of_time():
            longest_s = self.longest_run_s
            if not any(each.holds for each in self.points.values()):
                # A lower rate would give even less to go by: half of what is left is for this one.
                longest_s = max(longest_s, self._left_s / 2)
            lacking = least + more
            generous = min(lacking * _MORE_LUCK, rate * self._left_s * _LUCKY_SHARE)
            longer = min(int(rate * longest_s), math.ceil(max(lacking * _LUCK, generous)))
            if longer > 1.2 * least:
                point = self._measure(rate, longer, again=True)
        self.points[rate] = point
        return point

    def _measure(self, rate: float, count: int, *, again: bool = False) -> Point:
        count = max(1, min(count, int(rate * self._left_s)))
        self.say(f"{rate:,.4g} requests/s: {count:,} requests")
        # No two runs have the same arrivals, or a second one would repeat the first's luck.
        seed = self.load.seed + 2 * len(self.points) + again
        load = replace(self.load, count=count, rate_per_s=rate, seed=seed)
        found = measure(self.target, self.workload, load, command=self.command)
        return Point.judged(self.slo, rate, found)

    @property
    def _left_s(self) -> float:
        return self.until - time.monotonic()

    def _out_of_time(self) -> bool:
        return self._left_s < self.sustained_s

    def _remark(self, low: float | None, high: float | None) -> str:
        """Return what the reader must know of the answer; most answers need nothing."""
        if high is None:
            tried = "that is too much" if self.points else "in time"
            return f"no rate was found {tried}; give a larger --budget"
        failed = self.points[high]
        if failed.generator_is_late:
            return (
                "the generator's own lag is above 5 % of the bound beyond it and may be the limit; "
                "give it a core of its own"
            )
        open_rates = [each for each in self.points.values() if each.verdict.more]
        if open_rates and (low is None or failed.verdict.answer == "undecided"):
            point = failed if failed in open_rates else open_rates[-1]
            return f"{point.rate_per_s:,.4g}/s is undecided; {self._budget_to_decide(point)}"
        if low is None:
            return f"even {failed.rate_per_s:,.4g} requests/s is too much for it"
        if failed.rate_per_s / low > RESOLUTION * 1.001:
            return f"{failed.rate_per_s:,.4g}/s does not; a larger --budget finds the limit closer"
        return ""

    def _budget_to_decide(self, point: Point) -> str:
        more = point.verdict.more or 0
        seconds = (point.verdict.requests + more) * _LUCK / point.rate_per_s
        # Twice what was given at least: its second run was long enough by the first one's estimate.
        budget = math.ceil(max(seconds, 2 * self.longest_run_s) / _LONGEST_SHARE)
        return f"it needs about {more:,} more requests: give --budget {budget:,}"


def _round(rate: float) -> float:
    """Return a rate with two significant digits: the search starts where people would."""
    return float(f"{rate:.2g}")
