"""How many requests a replica may have under way: as many as it answers without queueing.

The gradient of Netflix's concurrency-limits (Gradient2): the limit follows the ratio of the usual
response time to the present one. When answers slow down because requests wait, the limit falls, and
what is above it is refused at the client at once.
"""

from __future__ import annotations

import math

_START, _LEAST, _MOST = 20.0, 4.0, 1000.0
_TOLERANCE = 2.0
_SMOOTHING = 0.2
_LONG, _SHORT = 1 / 600, 1 / 10
_BACK_OFF = 0.9


class GradientLimit:
    """The limit of one replica."""

    def __init__(self) -> None:
        self._limit = _START
        self._long_s: float | None = None
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
        if self._long_s is None:
            self._long_s = self._short_s = latency_s
        self._short_s += _SHORT * (latency_s - self._short_s)
        self._long_s += _LONG * (latency_s - self._long_s)
        if self._long_s > 2 * self._short_s:  # after a crisis the usual is found again quickly
            self._long_s *= 0.95
        if under_way * 2 < self._limit:
            return  # not what is limiting
        gradient = max(0.5, min(1.0, _TOLERANCE * self._long_s / self._short_s))
        wanted = self._limit * gradient + math.sqrt(self._limit)
        self._set(self._limit + _SMOOTHING * (wanted - self._limit))

    def refused(self) -> None:
        """Learn that the replica refused a request for its full queue, or was late with it."""
        self._set(self._limit * _BACK_OFF)

    def _set(self, limit: float) -> None:
        self._limit = max(_LEAST, min(_MOST, limit))
