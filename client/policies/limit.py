"""How many requests a replica may have under way: as many as it answers without queueing for long.

The limit follows the ratio of the usual response time to the present one, as in the gradient limits
of Netflix's concurrency-limits and of Envoy's adaptive concurrency filter. When answers slow down
because requests wait, the limit falls, and what is above it is refused at the client at once.

What is usual is learned from answers that hardly waited: those to requests that found the replica
with little to do, and, since under lasting overload there are none, those at the least limit. Were
it learned from all answers, as in Gradient2, it would follow an overload within seconds, and the
limit would grow back to where many answers are late.
"""

from __future__ import annotations

import math

_START, _LEAST, _MOST = 20.0, 4.0, 1000.0
_TOLERANCE = 2.0
# Of the way to where the limit should be, in the time of as many answers as may be under way.
_SMOOTHING = 0.3
_SHORT = 1 / 10
# What is usual falls quickly, as an answer cannot be quicker than it is, and rises slowly.
_FALL, _RISE = 1 / 10, 1 / 100
_BACK_OFF = 0.9


class GradientLimit:
    """The limit of one replica."""

    def __init__(self) -> None:
        self._limit = _START
        self._usual_s: float | None = None
        self._short_s = 0.0

    @property
    def limit(self) -> int:
        """How many requests may be under way."""
        return int(self._limit)

    def answered(self, latency_s: float, under_way: int) -> None:
        """Learn from an answer.

        Args:
            latency_s: What it took.
            under_way: How many requests there were when it was sent, itself included.
        """
        if self._usual_s is None:
            self._usual_s = self._short_s = latency_s
        self._short_s += _SHORT * (latency_s - self._short_s)
        self._learn_usual(self._usual_s, latency_s, under_way)
        if under_way * 2 < self._limit:
            return  # not what is limiting
        gradient = max(0.5, min(1.0, _TOLERANCE * self._usual_s / self._short_s))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._set(self._limit + _SMOOTHING * (wanted - self._limit) / self._limit)

    def refused(self) -> None:
        """Learn that the replica refused a request for its full queue, or was late with it."""
        self._set(self._limit * _BACK_OFF)

    def _learn_usual(self, usual_s: float, latency_s: float, under_way: int) -> None:
        if self._short_s < usual_s:
            usual_s += _FALL * (self._short_s - usual_s)
        elif under_way * 4 <= self._limit or self._limit <= _LEAST:
            usual_s += _RISE * (latency_s - usual_s)
        self._usual_s = usual_s

    def _set(self, limit: float) -> None:
        self._limit = max(_LEAST, min(_MOST, limit))
