"""Replicas that do worse than the others of their fleet, as long as half of it is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.policies.balancing import can_spare
from client.policies.ejection import silence_s

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.policies.balancing import Replica


def eject_silent(replicas: Sequence[Replica], usual_s: float, now: float) -> None:
    """Eject those with a call under way for far longer than answers usually take."""
    before = now - silence_s(usual_s)
    for each in replicas:
        for oldest in each.begun.values():
            if oldest < before and not each.gone and can_spare(replicas, each):
                each.health.waits(oldest, usual_s, now)
            break


def eject_slow(replicas: Sequence[Replica], now: float) -> None:
    """Eject those that take far longer than the others."""
    present = [each for each in replicas if not each.gone]
    for each in present:
        if can_spare(replicas, each):
            each.health.compare([other.health for other in present if other is not each], now)
