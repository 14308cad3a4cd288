"""How much load retries and hedges may add: a share of the requests, and a small reserve.

Without it a slow fleet is asked twice as much just when it can do less: Google's SRE book,
"Handling Overload" (per-client retry budgets).
"""

from __future__ import annotations

_RESERVE = 10.0


class ExtraLoad:
    """A bucket that every request fills by ``share``, and every extra call empties by 1.

    Args:
        share: Extra calls for each request, in the long run.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._most = _RESERVE if share else 0.0
        self._tokens = self._most

    def requested(self) -> None:
        """Count a request."""
        self._tokens = min(self._most, self._tokens + self._share)

    def take(self) -> bool:
        """Take an extra call; False if there is none left."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
