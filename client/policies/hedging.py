"""When a second replica is asked: after the 95th percentile of what answers took lately.

Dean and Barroso, "The Tail at Scale" (2013): so deferred, a hedge costs some 5 % more load at most
and takes most of the tail away.
"""

from __future__ import annotations

_WINDOW = 512
_LEAST = 50
_QUANTILE = 0.95
_EVERY = 32


class RollingP95:
    """The 95th percentile of the last 512 answers."""

    def __init__(self) -> None:
        self._last: list[float] = []
        self._next = 0
        self._seen = 0
        self.seconds: float | None = None

    def answered(self, latency_s: float) -> None:
        """Count an answer. The percentile is None for the first 50, then found anew every 32."""
        if len(self._last) < _WINDOW:
            self._last.append(latency_s)
        else:
            self._last[self._next] = latency_s
            self._next = (self._next + 1) % _WINDOW
        self._seen += 1
        if len(self._last) >= _LEAST and (self.seconds is None or self._seen % _EVERY == 0):
            self.seconds = sorted(self._last)[int(_QUANTILE * len(self._last))]
