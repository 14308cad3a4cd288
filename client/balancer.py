"""Which replica is asked, and what is learned from how calls end. Safe to use from threads."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from tritonclient.grpc import service_pb2

from client.channel import Trouble, says_ready, trouble
from client.errors import ServerOverloaded
from client.policies.balancing import Full, can_spare, pick
from client.policies.budget import ExtraLoad
from client.policies.hedging import RollingP95
from client.policies.outliers import eject_silent, eject_slow

if TYPE_CHECKING:
    from client.completions import Ended
    from client.members import Members
    from client.policies import Policies

_READY = "/inference.GRPCInferenceService/ModelReady"
# Replicas are compared with each other once for so many calls.
_COMPARE_EVERY = 64


class Balancer:
    """Chooses among the members, by policies that it tells what happened.

    Args:
        members: The replicas; whoever changes them holds the lock.
        model: Who is asked.
        policies: Of every replica.

    Attributes:
        several: Whether there is more than one.
        counts: What happened, by name.
    """

    def __init__(self, members: Members, model: str, policies: Policies) -> None:
        self.model, self.policies = model, policies
        self._members = members
        self.endpoints, self.replicas = members.endpoints, members.replicas
        self.p95 = RollingP95()
        self.extra = ExtraLoad(policies.extra_load)
        self.counts: Counter[str] = Counter()
        self.random = random.Random()
        self.several = False
        self._ready = service_pb2.ModelReadyRequest(name=model).SerializeToString()
        self._lock = threading.Lock()
        self._numbers = itertools.count()

    @property
    def urls(self) -> str:
        """The servers, for a message."""
        return ", ".join(self.endpoints[place].url for place in self._members.present)

    def count(self, what: str) -> None:
        """Count something that happened."""
        with self._lock:
            self.counts[what] += 1

    def requested(self) -> None:
        """Count a request: it fills the bucket of extra calls."""
        with self._lock:
            self.counts["requests"] += 1
            self.extra.requested()

    def take_extra(self, what: str) -> bool:
        """Take a retry or hedge from the budget; False if it is spent."""
        with self._lock:
            return self._take_extra(what)

    def pick(self, but: frozenset[int] = frozenset(), *, extra: str = "") -> int | None:
        """Return the place of the replica to ask.

        Args:
            but: Those that are not to be asked.
            extra: What the call is taken from the budget of extra calls for, if it is to be.

        Returns:
            None if another one is asked for and none is well, or the budget is spent.

        Raises:
            ServerOverloaded: All have as much under way as they answer quickly.
        """
        now = time.monotonic()
        probes: list[int] = []
        try:
            with self._lock:
                if self.several and self.p95.seconds is not None:
                    eject_silent(self.replicas, self.p95.seconds, now)
                for place, each in enumerate(self.replicas):
                    if each.health.troubled and not each.gone and each.health.take_probe(now):
                        probes.append(place)
                return self._pick(now, but, extra)
        finally:  # those that were taken are sent, too, when all others are at their limits
            for probed in probes:
                self._probe(probed)

    def _pick(self, now: float, but: frozenset[int], extra: str) -> int | None:
        try:
            place = pick(self.replicas, now, self.random, but=but)
        except Full as error:
            self.counts["shed"] += not but  # else it is a retry or hedge that did not go out
            raise ServerOverloaded(
                f"model {self.model!r} at {self.urls}: as many requests are under way as are "
                "answered quickly: send fewer at once, or serve more replicas"
            ) from error
        if place is None or (extra and not self._take_extra(extra)):
            return None
        self.replicas[place].under_way += 1
        self.counts["calls"] += 1
        if self.counts["calls"] % _COMPARE_EVERY == 0:
            eject_slow(self.replicas, now)
        return place

    def late(self, place: int) -> None:
        """Learn that a replica did not answer while its caller waited."""
        with self._lock:
            replica = self.replicas[place]
            if self.several:
                replica.health.late(time.monotonic(), spare=can_spare(self.replicas, replica))
            if replica.limit is not None:
                replica.limit.refused()

    def _begun(self, place: int) -> tuple[int, int]:
        """Note that a call begins; return its number, and how many the replica has with it."""
        began = time.monotonic()
        with self._lock:
            replica = self.replicas[place]
            call = next(self._numbers)
            replica.begun[call] = began
            return call, replica.under_way

    def _missing(self) -> None:
        """Hear that a replica cannot be reached."""

    def _learn(self, place: int, call: int, ended: Ended, under_way: int) -> None:
        now = time.monotonic()
        with self._lock:
            replica = self.replicas[place]
            replica.under_way -= 1
            began = replica.begun.pop(call)
            if ended.response is not None:
                latency_s = now - began
                self.p95.answered(latency_s)
                replica.health.answered(latency_s)
                if replica.limit is not None:
                    replica.limit.answered(latency_s, under_way)
                return
            what = trouble(ended.code, ended.details)
            if what is Trouble.FULL and replica.limit is not None:
                replica.limit.refused()
            if what in {Trouble.UNREACHABLE, Trouble.NOT_READY} and self.several:
                replica.health.unreachable(now)
        if what is Trouble.UNREACHABLE:
            self._missing()

    def _take_extra(self, what: str) -> bool:
        taken = self.extra.take()
        self.counts[what if taken else f"{what}_over_budget"] += 1
        return taken

    def _probe(self, place: int) -> None:
        def end(ended: Ended) -> None:
            ready = says_ready(ended)
            with self._lock:
                self.replicas[place].health.probed(time.monotonic(), ready=ready)
                self.counts["probes"] += 1

        self.endpoints[place].calls.start(self._ready, end, method=_READY)

    def state(self) -> list[dict[str, Any]]:
        """Return what is known of each replica, JSON-ready."""
        with self._lock:
            return [
                {
                    "url": endpoint.url,
                    "under_way": endpoint.calls.under_way,
                    "ejected": replica.health.ejected,
                    "ejections": replica.health.ejections,
                    "limit": replica.limit.limit if replica.limit else None,
                    "near": replica.near,
                }
                for endpoint, replica in zip(self.endpoints, self.replicas, strict=True)
                if not replica.gone
            ]
