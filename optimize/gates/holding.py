"""An interval held against a limit: passed, failed, or too little data to tell.

The limit is held against the interval's *bad* end: a loss has passed only if all that the interval
allows is within the limit. It has failed only if all that the interval allows is beyond it. Between
the two the requests do not tell, and it is said how many would.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.verdicts import Outcome, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.gate_limits import CannotTell
    from rankers.intervals import Interval

# With fewer requests that tell, a percentile interval is too narrow to prove anything, unless what
# moved is so little that even so many times as much is within the limit.
FEWEST_REQUESTS = 20
_FEW_TIMES = 10
# Beyond so many times the requests at hand nobody is told to gather more.
_FAR_TOO_MANY = 1e5


@dataclass(frozen=True, slots=True)
class Held:
    """One number's change, and what its limit says of it.

    Attributes:
        name: Of the metric.
        change: With its interval.
        limit: The largest loss allowed.
        outcome: What was decided.
        needs: About how many more requests would decide it; None if it is decided, or if no number
            would.
    """

    name: str
    change: Interval
    limit: float
    outcome: Outcome
    needs: int | None = None

    @property
    def text(self) -> str:
        """The change as it is printed, with what is wrong with it."""
        change = f"Δ{self.name} {_interval(self.change)}"
        if self.outcome == "failed":
            return f"{change} is worse than the limit {self.limit:.2g}"
        if self.outcome == "passed":
            return f"{change} is within {self.limit:.2g}"
        return f"{change} may be worse than the limit {self.limit:.2g}: {needs_text(self.needs)}"

    def to_json(self) -> dict[str, Any]:
        """Return the change as JSON-ready data; JSON has no infinity, so None is one."""
        return {
            "delta": self.change.estimate,
            "low": json_number(self.change.low),
            "high": json_number(self.change.high),
            "limit": self.limit,
            "outcome": self.outcome,
            "needs_requests": self.needs,
        }


def hold(
    name: str,
    change: Interval,
    limit: float,
    *,
    requests: int,
    less_is_better: bool,
    telling: int | None = None,
) -> Held:
    """Hold a change against the largest loss allowed.

    Args:
        name: Of the metric.
        change: The new value less the original's.
        limit: 0 or more.
        requests: How many the interval is of.
        less_is_better: Whether a rise is a loss.
        telling: How many of them have a say: a request without a click says nothing of the NDCG.
            By default all.
    """
    telling = requests if telling is None else telling
    if less_is_better:
        loss, bad, good = change.estimate, change.high, change.low
    else:
        loss, bad, good = -change.estimate, -change.low, -change.high
    sure = telling >= FEWEST_REQUESTS
    furthest = max(abs(loss), abs(bad), abs(good))
    if (sure and bad <= limit) or _FEW_TIMES * furthest <= limit:
        return Held(name, change, limit, "passed")
    if sure and good > limit:
        return Held(name, change, limit, "failed")
    end = bad if loss <= limit else good
    more = more_requests(requests, abs(end - loss), abs(limit - loss))
    if not sure and more is not None:
        more = max(more, math.ceil(requests * FEWEST_REQUESTS / max(telling, 1)) - requests)
    return Held(name, change, limit, "cannot tell", more)


def more_requests(requests: int, half_width: float, margin: float) -> int | None:
    """Return about how many more requests make an interval narrow enough, to two digits.

    An interval's width falls as one over the root of the requests.

    Args:
        requests: How many there are.
        half_width: How far the interval reaches towards the limit now.
        margin: How far it may reach.

    Returns:
        None if the estimate lies at the limit, so that hardly any number would do.
    """
    if margin <= 0 or not math.isfinite(half_width):
        return None
    times = (half_width / margin) ** 2
    if times > _FAR_TOO_MANY:
        return None
    more = max(1, math.ceil(requests * times - requests))
    digits: int = 10 ** max(0, len(str(more)) - 2)
    return math.ceil(more / digits) * digits


def settle(
    gate: str,
    held: Sequence[Held],
    numbers: dict[str, Any],
    *,
    cannot_tell: CannotTell,
    passing: str,
) -> Verdict:
    """Make a gate's verdict of what was held: the worst decides, and is named.

    Args:
        gate: The gate's name.
        held: What it looked at.
        numbers: What goes into the verdict.
        cannot_tell: Whether too little data blocks.
        passing: What is said where all passed.
    """
    failed = [each for each in held if each.outcome == "failed"]
    if failed:
        return Verdict(gate, False, "; ".join(each.text for each in failed), numbers)
    unsure = [each for each in held if each.outcome == "cannot tell"]
    if not unsure:
        return Verdict(gate, True, passing, numbers)
    changes = ", ".join(
        f"Δ{each.name} {_interval(each.change)} against the limit {each.limit:.2g}"
        for each in unsure
    )
    reason = f"{needs_text(most_needed(unsure))}: {changes}"
    return Verdict(gate, cannot_tell == "pass", reason, numbers, cannot_tell=True)


def most_needed(unsure: Sequence[Held]) -> int | None:
    """Return how many more requests decide all of them; None if no number does."""
    needs = [each.needs for each in unsure]
    return None if None in needs else max(each for each in needs if each is not None)


def needs_text(needs: int | None) -> str:
    """Say how many more requests are needed to tell."""
    if needs is None:
        return "no number of requests is likely to tell, it lies at the limit"
    return f"needs about {needs:,} more requests"


def json_number(value: float) -> float | None:
    """JSON has no infinity."""
    return float(value) if np.isfinite(value) else None


def _interval(change: Interval) -> str:
    return f"{change.estimate:+.2g} [{change.low:+.2g}, {change.high:+.2g}]"
