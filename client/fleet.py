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

from client.channel import Trouble, explain, open_channel, says_ready, too_late, trouble
from client.errors import ModelNotFound, RankClientError, ServerOverloaded
from client.policies.balancing import Full, Replica, can_spare, pick
from client.policies.budget import ExtraLoad
from client.policies.hedging import RollingP95
from client.served_model import ServedModel
from client.unhurried import UnhurriedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from client.completions import Ended, Metadata
    from client.policies import Policies
    from client.tracing import Tracing

_READY = "/inference.GRPCInferenceService/ModelReady"
# Replicas are compared with each other once for so many calls.
_COMPARE_EVERY = 64


class Endpoint:
    """One server: a channel that lives as long as the client."""

    def __init__(
        self, url: str, credentials: grpc.ChannelCredentials | None, metadata: Metadata
    ) -> None:
        self.url = url
        channel, self.stub = open_channel(url, credentials)
        self.calls = UnhurriedCalls(channel, metadata=metadata)
        self.metadata = metadata


class Fleet:
    """All servers that a client asks for one model.

    Args:
        urls: Of the servers, ``host:port``.
        model: Its name.
        policies: What is done when servers are not calm.
        credentials: Of gRPC, for TLS.
        metadata: Sent with every call.
        tracing: Makes spans of calls; None for no traces.
    """

    def __init__(
        self,
        urls: Sequence[str],
        model: str,
        policies: Policies,
        credentials: grpc.ChannelCredentials | None,
        metadata: Metadata,
        *,
        tracing: Tracing | None = None,
    ) -> None:
        self.model, self.policies, self.tracing = model, policies, tracing
        self.endpoints = [Endpoint(url, credentials, metadata) for url in urls]
        self.replicas = [Replica(policies) for _ in urls]
        self.p95 = RollingP95()
        self.extra = ExtraLoad(policies.extra_load)
        self.counts: Counter[str] = Counter()
        self.random = random.Random()
        self._ready = service_pb2.ModelReadyRequest(name=model).SerializeToString()
        self._lock = threading.Lock()
        self._describing = threading.Lock()
        self._served: ServedModel | None = None
        self._numbers = itertools.count()

    @property
    def urls(self) -> str:
        """The servers, for a message."""
        return ", ".join(each.url for each in self.endpoints)

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
                self._look_for_silence(now)
                probes = [p for p, each in enumerate(self.replicas) if each.health.take_probe(now)]
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
            self._compare(now)
        return place

    @property
    def alone(self) -> bool:
        """Whether there is one replica, no limit and no trace: nothing to choose or to learn."""
        return len(self.endpoints) == 1 and not self.policies.limit and self.tracing is None

    def ask_alone(self, body: Callable[[float], bytes], timeout_s: float) -> Any:
        """Ask the only replica, by the shortest way; return the ``ModelInferResponse``.

        Args:
            body: Makes the request's bytes, given how long the server may keep it.
            timeout_s: How long the answer may take. Without any time left nothing is sent.

        Raises:
            RankClientError: There was no answer.
        """
        with self._lock:
            self.counts["requests"] += 1
            self.counts["calls"] += timeout_s > 0
        try:
            return self.endpoints[0].calls(body(timeout_s), timeout_s)
        except TimeoutError:
            if timeout_s > 0:
                self.count("late")
            raise self.too_late(timeout_s) from None
        except grpc.RpcError as error:
            raise self.explained(0, error, timeout_s) from error

    def send(
        self, place: int, body: bytes, then: Callable[[Ended], None], kind: str = "first"
    ) -> None:
        """Send a request to the replica that was picked; ``kind`` is what traces call it."""
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
            body, end, metadata=() if traced is None else traced.metadata
        )

    def late(self, place: int) -> None:
        """Learn that a replica did not answer while its caller waited."""
        with self._lock:
            replica = self.replicas[place]
            if len(self.replicas) > 1:
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
        return self._served

    def described(self, timeout_s: float, *, instead_of: ServedModel | None = None) -> ServedModel:
        """Return the model's description, reading it if there is none but ``instead_of``."""
        served = self._served
        if served is not None and served is not instead_of:
            return served
        with self._describing:
            if self._served is None or self._served is instead_of:
                self._served = self._read_description(timeout_s)
            return self._served

    def check_process(self) -> None:
        """Check that the client was made by this process."""
        self.endpoints[0].calls.check_process()

    def close(self, patience_s: float) -> None:
        """Close all channels when no call is under way any more, or patience ends."""
        until = time.monotonic() + patience_s
        for each in self.endpoints:
            each.calls.close(max(0.0, until - time.monotonic()))

    def _read_description(self, timeout_s: float) -> ServedModel:
        request = service_pb2.ModelConfigRequest(name=self.model)
        failed: RankClientError | None = None
        order = sorted(range(len(self.replicas)), key=lambda p: self.replicas[p].health.ejected)
        for place in order:
            each = self.endpoints[place]
            try:
                response = each.stub.ModelConfig(
                    request, timeout=timeout_s, metadata=each.metadata or None
                )
                if response.config.name != self.model:
                    raise ModelNotFound(
                        f"the server at {each.url} described model {response.config.name!r} when "
                        f"asked for {self.model!r}: see what serves there"
                    )
                return ServedModel.from_config(response.config, each.url)
            except grpc.RpcError as error:
                failed = failed or self.explained(place, error, timeout_s)
        raise failed or ServerOverloaded("no servers were given")

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
            if what in {Trouble.UNREACHABLE, Trouble.NOT_READY} and len(self.replicas) > 1:
                replica.health.unreachable(now)

    def _take_extra(self, what: str) -> bool:
        taken = self.extra.take()
        self.counts[what if taken else f"{what}_over_budget"] += 1
        return taken

    def _look_for_silence(self, now: float) -> None:
        if len(self.replicas) < 2 or self.p95.seconds is None:
            return
        for each in self.replicas:
            if each.begun and can_spare(self.replicas, each):
                each.health.waits(next(iter(each.begun.values())), self.p95.seconds, now)

    def _compare(self, now: float) -> None:
        for each in self.replicas:
            others = [other.health for other in self.replicas if other is not each]
            if can_spare(self.replicas, each):
                each.health.compare(others, now)

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
                }
                for endpoint, replica in zip(self.endpoints, self.replicas, strict=True)
            ]
