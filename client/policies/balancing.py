"""Which replica is asked: of two drawn at random, the one with less to do.

Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly as even as
asking the least loaded of all, and many clients do not all choose the same one.
"""

from __future__ import annotations

from operator import attrgetter
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
        self.gone = False  # it is asked nothing any more, and its calls come to their ends
        self.near = True  # in the client's own zone
        self._spill_at = policies.spill_at

    @property
    def full(self) -> bool:
        """Whether it has as much to do as it answers quickly."""
        return self.limit is not None and self.under_way >= self.limit.limit

    @property
    def calm(self) -> bool:
        """Whether it may be asked as any other: well, near, without a limit, with all its share."""
        health = self.health
        return not (self.gone or health.troubled or self.limit is not None) and self.near

    @property
    def crowded(self) -> bool:
        """Whether those of other zones are to be asked as well."""
        return self.under_way >= self._spill_at


class Full(Exception):  # noqa: N818 - it reads as what is so
    """Every replica has as many requests under way as it answers quickly."""


def can_spare(replicas: Sequence[Replica], one: Replica) -> bool:
    """Tell whether half of the replicas are left when one is ejected for being slow."""
    present = [each for each in replicas if not each.gone]
    others = sum(not each.health.ejected for each in present if each is not one)
    return others >= max(1.0, len(present) / 2)


_calm = attrgetter("calm")


def _less_busy(replicas: Sequence[Replica], random: Random) -> int:
    """Return the place of one of two that are drawn, where nothing speaks against any."""
    count = len(replicas)
    if count == 1:
        return 0
    one, two = (0, 1) if count == 2 else random.sample(range(count), 2)
    first, second = replicas[one].under_way, replicas[two].under_way
    if first == second:
        return one if random.random() < 0.5 else two
    return one if first < second else two


def pick(
    replicas: Sequence[Replica], now: float, random: Random, *, but: frozenset[int] = frozenset()
) -> int | None:
    """Return the place of the replica to ask: one that is near, unless those are crowded.

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
    if not but and all(map(_calm, replicas)):
        return _less_busy(replicas, random)
    places = [place for place, each in enumerate(replicas) if place not in but and not each.gone]
    well = [place for place in places if not replicas[place].health.ejected]
    if not well and but:
        return None
    slow = [place for place in places if replicas[place].health.slow]
    able = [place for place in well or slow or places if not replicas[place].full]
    if not able:
        raise Full
    if not all(replicas[place].near for place in able):
        near = [place for place in able if replicas[place].near and not replicas[place].crowded]
        able = near or able
    two = able if len(able) < 3 else random.sample(able, 2)
    loads = [
        ((replicas[each].under_way + 1) / replicas[each].health.weight(now), random.random(), each)
        for each in two
    ]
    return min(loads)[2]
