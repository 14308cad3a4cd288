"""The replicas of one model, and what the client knows of each. Safe to use from threads."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2

from client.channel import Trouble, explain, says_ready, too_late, trouble
from client.description import Description
from client.discovery import Rediscovery
from client.errors import RankClientError, ServerOverloaded
from client.members import Endpoint, Members
from client.policies.balancing import Full, can_spare, pick
from client.policies.budget import ExtraLoad
from client.policies.hedging import RollingP95
from client.policies.outliers import eject_silent, eject_slow

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended, Metadata
    from client.discovery import Names
    from client.gathering import Asked
    from client.inbox import Waiting
    from client.policies import Policies
    from client.served_model import ServedModel
    from client.tracing import Tracing

_READY = "/inference.GRPCInferenceService/ModelReady"
# Replicas are compared with each other once for so many calls.
_COMPARE_EVERY = 64


class Fleet:
    """All servers that a client asks for one model.

    Args:
        names: Of the servers.
        model: Its name.
        policies: What is done when servers are not calm.
        credentials: Of gRPC, for TLS.
        metadata: Sent with every call.
        tracing: Makes spans of calls; None for no traces.
        near: Tells of a URL whether it is in the client's own zone.

    Raises:
        ServerUnreachable: A name cannot be resolved.
    """

    def __init__(
        self,
        names: Names,
        model: str,
        policies: Policies,
        credentials: grpc.ChannelCredentials | None,
        metadata: Metadata,
        *,
        tracing: Tracing | None = None,
        near: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self.model, self.policies, self.tracing = model, policies, tracing
        self._names = names
        self._members = Members(
            lambda target: Endpoint(target, credentials, metadata), policies, near
        )
        self.endpoints, self.replicas = self._members.endpoints, self._members.replicas
        self.p95 = RollingP95()
        self.extra = ExtraLoad(policies.extra_load)
        self.counts: Counter[str] = Counter()
        self.random = random.Random()
        self._ready = service_pb2.ModelReadyRequest(name=model).SerializeToString()
        self._lock = threading.Lock()
        self._description = Description(model)
        self._numbers = itertools.count()
        self._closed = False
        self._members.renew(names.targets())
        self.several = len(self.replicas) > 1
        self._simple = not self.several and not names.change
        self._rediscovery = Rediscovery(self, policies.rediscover_s) if names.change else None

    @property
    def urls(self) -> str:
        """The servers, for a message."""
        return ", ".join(self.endpoints[place].url for place in self._members.present)

    def rediscover(self) -> None:
        """Find out which servers there are now. Where that fails, those known stay."""
        try:
            targets = self._names.targets()
        except RankClientError:
            self.count("discoveries_failed")
            return
        with self._lock:
            if self._closed:
                return
            changes = self._members.renew(targets, time.monotonic())
            self.counts.update({"came": changes.came, "went": changes.went})
            self.several = len(self._members.present) > 1
        for each in changes.drained:
            each.calls.close(0.0)
        if self._members.draining and self._rediscovery is not None:
            self._rediscovery.soon()

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
        now, probes = time.monotonic(), []
        try:
            with self._lock:
                if self.several and self.p95.seconds is not None:
                    eject_silent(self.replicas, self.p95.seconds, now)
                probes = [
                    place
                    for place, each in enumerate(self.replicas)
                    if not each.gone and each.health.take_probe(now)
                ]
                return self._pick(now, but, extra)
        finally:  # those that were taken are sent, too, when all others are at their limits
            for each in probes:
                self._probe(each)

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

    @property
    def alone(self) -> bool:
        """Whether there is one replica, no limit and no trace: nothing to choose or to learn."""
        return self._simple and not self.policies.limit and self.tracing is None

    def ask_alone(self, question: Asked, timeout_s: float) -> Any:
        """Ask the only replica, by the shortest way; return what was read of its answer.

        Args:
            question: What to ask.
            timeout_s: How long the answer may take. Without any time left nothing is sent.

        Raises:
            RankClientError: There was no answer.
        """
        with self._lock:
            self.counts["requests"] += 1
            self.counts["calls"] += timeout_s > 0
        try:
            ended = self.endpoints[0].calls.ask(question.body(timeout_s), timeout_s)
            return question.read(ended.answer())
        except TimeoutError:
            if timeout_s > 0:
                self.count("late")
            raise self.too_late(timeout_s) from None
        except grpc.RpcError as error:
            raise self.explained(0, error, timeout_s) from error

    def send(
        self,
        place: int,
        body: bytes,
        then: Callable[[Ended], None],
        kind: str = "first",
        waiting: Waiting | None = None,
    ) -> None:
        """Send a request to the replica that was picked.

        Args:
            place: Its own.
            body: The request.
            then: Is told how the call ended.
            kind: What traces call it.
            waiting: Who waits for it in its own thread, if one does.
        """
        traced = (
            None if self.tracing is None else self.tracing.call(self.endpoints[place].url, kind)
        )
        began = time.monotonic()
        with self._lock:
            under_way = self.replicas[place].under_way
            call = next(self._numbers)
            self.replicas[place].begun[call] = began

        def end(ended: Ended) -> None:
            self._learn(place, call, ended, under_way)
            if traced is not None:
                traced.ended(ended)
            then(ended)

        self.endpoints[place].calls.start(
            body, end, metadata=() if traced is None else traced.metadata, waiting=waiting
        )

    def late(self, place: int) -> None:
        """Learn that a replica did not answer while its caller waited."""
        with self._lock:
            replica = self.replicas[place]
            if self.several:
                replica.health.late(time.monotonic(), spare=can_spare(self.replicas, replica))
            if replica.limit is not None:
                replica.limit.refused()

    def explained(self, place: int, error: grpc.RpcError, timeout_s: float) -> RankClientError:
        """Return what a failed call means, as an exception to raise."""
        each = self.endpoints[place]
        return explain(error, each.stub, each.url, self.model, timeout_s, metadata=each.metadata)

    def too_late(self, timeout_s: float) -> RankClientError:
        """Return what a missed deadline is, as an exception to raise."""
        return too_late(self.urls, self.model, timeout_s)

    @property
    def known(self) -> ServedModel | None:
        """The model's description, if it was read."""
        return self._description.known

    def described(self, timeout_s: float, *, instead_of: ServedModel | None = None) -> ServedModel:
        """Return the model's description, reading it if there is none but ``instead_of``."""
        return self._description.read(self._likeliest, timeout_s, instead_of=instead_of)

    def check_process(self) -> None:
        """Check that the client was made by this process."""
        self.endpoints[0].calls.check_process()

    def close(self, patience_s: float) -> None:
        """Close all channels when no call is under way any more, or patience ends."""
        if self._rediscovery is not None:
            self._rediscovery.stop()
        with self._lock:
            self._closed = True
        until = time.monotonic() + patience_s
        for each in self.endpoints:
            each.calls.close(max(0.0, until - time.monotonic()))

    def _likeliest(self) -> list[Endpoint]:
        """Return those that are there, ejected ones last."""
        with self._lock:
            places = self._members.present
            order = sorted(places, key=lambda place: self.replicas[place].health.ejected)
            return [self.endpoints[place] for place in order]

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
        if what is Trouble.UNREACHABLE and self._rediscovery is not None:
            self._rediscovery.soon()

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
