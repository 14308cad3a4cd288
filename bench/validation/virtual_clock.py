"""A clock whose time passes only where the load or the target says so.

With it the generator's own code runs before a server of known service times as if nothing else in
the world took time: what it reports must be the queue's, to the last digit, on any machine. It is
for one worker: others would have to wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from threading import Event


class VirtualClock:
    """A `bench.clock.Clock` that stands still unless it is moved."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def now(self) -> float:
        """Return how many seconds have passed."""
        return self._seconds

    def sleep_until(self, moment: float, _called_off: Event) -> bool:
        """Be there at once."""
        self._seconds = max(self._seconds, moment)
        return True

    def pass_by(self, seconds: float) -> None:
        """Let time pass."""
        self._seconds += seconds


class VirtualServer:
    """Serves each request for a given time: a target on a `VirtualClock`.

    Args:
        clock: The one that the load is sent by.
        service_s: Of each request in the order in which they are served.
    """

    def __init__(self, clock: VirtualClock, service_s: Iterable[float]) -> None:
        self._clock = clock
        self._service_s = iter(service_s)

    def __call__(self, _: object) -> None:
        """Serve one request."""
        self._clock.pass_by(next(self._service_s))
