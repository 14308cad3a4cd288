"""The attempts of one request: the first, retries of it, and a hedge, within one budget of time.

A state machine: it is told the time and what ended, and says when it wants to be woken up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.channel import RETRYABLE, trouble
from client.errors import ServerOverloaded
from client.policies.backoff import backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended
    from client.fleet import Fleet

_NEVER = float("inf")
_MOST_RETRIES = 5
# Between tries to find a second replica for a request that waits.
_SHORTEST_S, _LONGEST_S = 0.001, 0.5


class Attempts:
    """Asks one replica, and others as policies say.

    Args:
        fleet: Of the replicas.
        deadline: When the answer is of no use any more.
        send: Sends to the replica at a place, as the attempt of a number.

    Attributes:
        ended: How the request ended; None while it has not, or if it was too late.
        place: The replica that ended it.
        late: Whether the deadline passed.
        wake_at: When `woke` is to be called.
    """

    def __init__(self, fleet: Fleet, deadline: float, send: Callable[[int, int], None]) -> None:
        self._fleet, self._deadline, self._send = fleet, deadline, send
        self._several = fleet.several
        self._waiting: dict[int, int] = {}  # attempt → place
        self._asked: list[int] = []
        self._hedge: int | None = None
        self._hedge_at = self._retry_at = _NEVER
        self._hedge_wait_s = 0.0
        self._retries = 0
        self._failed: tuple[Ended, int] | None = None
        self.ended: Ended | None = None
        self.place = 0
        self.late = False

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.late or self.ended is not None

    def kind(self, attempt: int) -> str:
        """Return what an attempt is: ``first``, ``retry`` or ``hedge``."""
        if attempt == self._hedge:
            return "hedge"
        return "retry" if attempt else "first"

    @property
    def wake_at(self) -> float:
        """When something is to be done if nothing ends before."""
        return min(self._deadline, self._hedge_at, self._retry_at)

    def begin(self, now: float) -> None:
        """Send the first attempt.

        Raises:
            ServerOverloaded: The client's limits say no.
        """
        self._fleet.requested()
        if now >= self._deadline:
            self.late = True
            return
        place = self._fleet.pick()
        if self._several and self._fleet.policies.hedge and self._fleet.p95.seconds is not None:
            self._hedge_wait_s = self._fleet.p95.seconds
            self._hedge_at = now + self._hedge_wait_s
        self._start(place or 0)

    def heard(self, attempt: int, ended: Ended, now: float) -> None:
        """Take note of an attempt's end."""
        place = self._waiting.pop(attempt)
        if self.done:
            return
        if ended.response is not None:
            self._finish(ended, place)
            if attempt == self._hedge:
                self._fleet.count("hedges_won")
                for other in self._waiting.values():
                    self._fleet.late(other)
            return
        self._failed = ended, place
        retryable = self._several and trouble(ended.code, ended.details) in RETRYABLE
        if not retryable:
            self._finish(ended, place)
        elif not self._waiting:
            self._retry(ended, place, now)

    def woke(self, now: float) -> None:
        """Do what is due."""
        if self.done:
            return
        if now >= self._deadline:
            self.late = True
            self._fleet.count("late")
            for place in self._waiting.values():
                self._fleet.late(place)
        elif now >= self._retry_at:
            self._retry_at = _NEVER
            self._again()
        elif now >= self._hedge_at:
            self._hedge_at = _NEVER
            self._ask_a_second(now)

    def _retry(self, ended: Ended, place: int, now: float) -> None:
        self._hedge_at = _NEVER
        if (
            not self._fleet.policies.retry
            or self._retries >= _MOST_RETRIES
            or not self._fleet.take_extra("retries")
        ):
            self._finish(ended, place)
            return
        self._retry_at = now + backoff_s(self._retries, self._fleet.random)
        self._retries += 1

    def _again(self) -> None:
        """Retry on a replica that was not asked yet; on any if there is none."""
        try:
            place = self._fleet.pick(frozenset(self._asked))
            if place is None:
                place = self._fleet.pick()
        except ServerOverloaded:
            place = None
        if place is not None:
            self._start(place)
        elif self._failed is not None:
            self._finish(*self._failed)

    def _ask_a_second(self, now: float) -> None:
        try:
            place = self._fleet.pick(frozenset(self._asked), extra="hedges")
        except ServerOverloaded:
            place = None
        if place is None:
            # No other is well just now, or the budget is spent; the first may never answer.
            self._hedge_wait_s = min(max(2 * self._hedge_wait_s, _SHORTEST_S), _LONGEST_S)
            self._hedge_at = now + self._hedge_wait_s
        else:
            self._hedge = len(self._asked)
            self._start(place)

    def _start(self, place: int) -> None:
        attempt = len(self._asked)
        self._asked.append(place)
        self._waiting[attempt] = place
        self._send(place, attempt)

    def _finish(self, ended: Ended, place: int) -> None:
        self.ended, self.place = ended, place
