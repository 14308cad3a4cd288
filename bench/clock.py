"""The clock that a load is sent by. A test gives it another, whose time passes as the test says."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from threading import Event

# The kernel wakes a sleeper some 50 to 100 µs after its time, so the last stretch is polled: first
# by sleeps of 0, which give the interpreter lock to whoever has an answer to read but cost some
# 60 µs each, then without letting go.
_POLLED_S = 0.000_2
_HELD_S = 0.000_07
# A sleeping worker looks up this often to see whether the load was called off.
_LONGEST_SLEEP_S = 0.2


class Clock(Protocol):
    """Tells the time, and lets it pass."""

    def now(self) -> float:
        """Return seconds since some moment, never fewer than before."""
        ...

    def sleep_until(self, moment: float, called_off: Event) -> bool:
        """Return at ``moment``, or at once if it has passed; False if the load was called off."""
        ...


class PreciseClock:
    """The machine's clock, ``time.perf_counter``."""

    now = staticmethod(time.perf_counter)

    def sleep_until(self, moment: float, called_off: Event) -> bool:
        """Sleep, and poll the last stretch."""
        now = self.now
        while (left := moment - now()) > _POLLED_S:
            time.sleep(min(left - _POLLED_S, _LONGEST_SLEEP_S))
            if called_off.is_set():
                return False
        while moment - now() > _HELD_S:
            time.sleep(0)
        while now() < moment:
            pass
        return True
