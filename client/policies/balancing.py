"""Which replica is asked: of two drawn at random, the one with less to do.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly as even as
asking the least loaded of all, and many clients do not all choose the same one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.policies.ejection import Health
from client.policies.limit import GradientLimit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from client.policies import Policies


class Replica:
    """What a client knows of one replica."""

    def __init__(self, policies: Policies) -> None:
        self.health = Health(policies.ejection_s, policies.ramp_s)
        self.limit = GradientLimit() if policies.limit else None
        self.under_way = 0
        self.begun: dict[int, float] = {}  # when each call under way began, the oldest first

    @property
    def full(self) -> bool:
        """Whether it has as much to do as it answers quickly."""
        return self.limit is not None and self.under_way >= self.limit.limit


class Full(Exception):  # noqa: N818 - it reads as what is so
    """Every replica has as many requests under way as it answers quickly."""


def can_spare(replicas: Sequence[Replica], one: Replica) -> bool:
    """Tell whether half of the replicas are left when one is ejected for being slow."""
    others = sum(not each.health.ejected for each in replicas if each is not one)
    return others >= max(1.0, len(replicas) / 2)


def pick(
    replicas: Sequence[Replica], now: float, random: Random, *, but: frozenset[int] = frozenset()
) -> int | None:
    """Return the place of the replica to ask.

    Args:
        replicas: All of them. Where all are ejected, a slow one is asked, and where all are gone,
            any: a request that may fail is better than one that does.
        now: The time.
        random: Draws the two.
        but: Places that are not to be asked.

    Returns:
        None if all are among ``but``, or if another one is asked for and none is well.

    Raises:
        Full: Those that could be asked are at their limits.
    """
    places = [place for place in range(len(replicas)) if place not in but]
    well = [place for place in places if not replicas[place].health.ejected]
    if not well and but:
        return None
    slow = [place for place in places if replicas[place].health.slow]
    able = [place for place in well or slow or places if not replicas[place].full]
    if not able:
        raise Full
    two = able if len(able) < 3 else random.sample(able, 2)
    loads = [
        ((replicas[each].under_way + 1) / replicas[each].health.weight(now), random.random(), each)
        for each in two
    ]
    return min(loads)[2]
