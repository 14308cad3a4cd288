"""When a replica is left alone, and how it comes back.

One that cannot be reached is ejected at once; one that is silent, late several times in a row, or
much slower than the others, as well, as long as half of the fleet is left: where all are slow, the
load is the reason. An ejected one is asked whether the model is ready, not for scores, so that no
request is risked; when it says so, its share grows back. The idea is Envoy's outlier detection with
health checks and slow start.
"""

from __future__ import annotations

_LATE_IN_A_ROW = 3
_LONGEST_S = 10.0
_FIRST_SHARE = 0.1
_SMOOTHING = 0.1
_SLOW = 4.0
_LEAST_ANSWERS = 30
_SILENT, _LEAST_SILENCE_S = 10.0, 0.2


def silence_s(usual_s: float) -> float:
    """Return how long a call may go on where answers take ``usual_s`` or less."""
    return max(_LEAST_SILENCE_S, _SILENT * usual_s)


class Health:
    """Whether one replica is asked, and with which weight.

    Args:
        ejection_s: How long it is left alone at first.
        ramp_s: How long its share takes to grow back.
    """

    def __init__(self, ejection_s: float, ramp_s: float) -> None:
        self._first_s, self._ramp_s = ejection_s, ramp_s
        self._ejection_s = ejection_s
        self._until: float | None = None  # ejected, and not probed before
        self._gone = False
        self._probing = False
        self._back_at: float | None = None
        self._since = float("-inf")  # calls from before it came back say nothing of it now
        self._late = 0
        self.answers = 0
        self.latency_s = 0.0
        self.ejections = 0

    @property
    def ejected(self) -> bool:
        """Whether it gets no requests."""
        return self._until is not None

    @property
    def troubled(self) -> bool:
        """Whether it is ejected, or gets less than its share."""
        return self._until is not None or self._back_at is not None

    @property
    def slow(self) -> bool:
        """Whether it was ejected although it can be reached: better than none."""
        return self.ejected and not self._gone

    def weight(self, now: float) -> float:
        """Its share of what a replica that was never ejected gets, in [0.1, 1]."""
        if self._back_at is None:
            return 1.0
        grown = (now - self._back_at) / self._ramp_s
        if grown >= 1:
            self._back_at = None
            return 1.0
        return max(_FIRST_SHARE, grown)

    def ramp(self, now: float) -> None:
        """Let its share grow from here, as it is new."""
        self._back_at = now

    def answered(self, latency_s: float) -> None:
        """Count an answer that came in time."""
        self._late = 0
        self.answers += 1
        self.latency_s += (latency_s - self.latency_s) * max(_SMOOTHING, 1 / self.answers)
        if self._back_at is None and not self.ejected:
            self._ejection_s = self._first_s

    def unreachable(self, now: float) -> None:
        """Count a call that found nobody, or no ready model."""
        self._gone = True
        self._eject(now)

    def late(self, now: float, *, spare: bool) -> None:
        """Count a call that took longer than its caller waited, or than a hedge of it.

        Args:
            now: The time.
            spare: Whether the fleet can do without a slow one.
        """
        self._late += 1
        if spare and self._late >= _LATE_IN_A_ROW:
            self._eject(now)

    def waits(self, began: float, usual_s: float, now: float) -> None:
        """Eject it if a call of it has gone on ten times as long as answers usually take.

        One that stopped ends no call, so nothing else would tell; hedges come back from others.

        Args:
            began: When its oldest call began.
            usual_s: The 95th percentile of answers.
            now: The time.
        """
        if began > self._since and now - began > silence_s(usual_s):
            self._eject(now)

    def compare(self, others: list[Health], now: float) -> None:
        """Eject it if it takes four times as long as the median of the others."""
        known = sorted(each.latency_s for each in others if each.answers >= _LEAST_ANSWERS)
        if not known or self.ejected or self.answers < _LEAST_ANSWERS:
            return
        if self.latency_s > _SLOW * known[len(known) // 2]:
            self._eject(now)

    def take_probe(self, now: float) -> bool:
        """Tell whether it is to be asked now if it is ready; `probed` is to follow."""
        if self._until is None or self._probing or now < self._until:
            return False
        self._probing = True
        return True

    def probed(self, now: float, *, ready: bool) -> None:
        """Take it back if it is ready, else leave it alone for longer."""
        self._probing = False
        if not ready:
            self._until = now + self._longer()
            return
        self._until = None
        self._gone = False
        self._back_at = self._since = now
        self._late = self.answers = 0
        self.latency_s = 0.0

    def _eject(self, now: float) -> None:
        if self.ejected:
            return
        self.ejections += 1
        self._late = 0
        self._until = now + self._longer()

    def _longer(self) -> float:
        seconds = self._ejection_s
        self._ejection_s = min(_LONGEST_S, 2 * seconds)
        return seconds
