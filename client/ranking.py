"""What a ranking client does but for waiting: the same for threads and for coroutines."""

from __future__ import annotations

import math
import time
from functools import partial
from numbers import Real
from typing import TYPE_CHECKING, Any, get_args

from client.best_effort import LESS, WHOLE, BestEffort, Less, Ranked
from client.columns import ranking_request
from client.discovery import Names, Resolver, addresses
from client.errors import InvalidRequest
from client.fleet import Fleet
from client.gathering import Gathering
from client.metrics import Histogram, prometheus
from client.policies import Policies
from client.scores import best, check_k, first, merged
from client.sent_metadata import sendable
from client.sharing import SharedMemory
from client.zones import nearness
from rankers.requests import RankingRequest, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import grpc

    from client.policies.degrading import Degrading
    from client.served_model import Question, ServedModel
    from client.tracing import Tracing

# How many calls of one `rank_many` are under way at once.
AT_ONCE = 16
# How long closing a client waits for what it no longer waited for.
DRAIN_S = 5.0


class Ranking:
    """The part that `RankerClient` and `AsyncRankerClient` share.

    Args:
        url: The server's gRPC ``host:port``, or those of several replicas. ``dns:///host:port``
            stands for all addresses of a host, looked up again from time to time.
        model: The model's name.
        timeout_s: How long one request may take, in the queue and on the way, retries included.
        policies: What is done when servers are not calm; by default those of `Policies`.
        credentials: For TLS: `grpc.ssl_channel_credentials` makes them, with a client's own
            certificate for mutual TLS. Without them nothing is encrypted.
        metadata: Sent with every call, such as ``{"authorization": "Bearer …"}``. Names are
            lowercase. It is in no message and no metric.
        latencies: Keep a histogram of what `rank` and `rank_many` took, for `metrics`.
        tracing: Make OpenTelemetry spans of requests and of their calls, and pass the trace context
            on to the server (extra ``otel``).
        zone: The caller's own. Replicas in it are asked first, while they are well and not crowded.
        zones: The zone of each replica by its ``host:port``, or what tells it.
        resolver: Finds the addresses behind a name, in place of the system's.
        shared_memory: ``auto`` sends requests of 64 KiB and more through shared memory where a
            server is on this host and has shown that it sees it; ``always`` those of any size;
            ``never`` none.

    Raises:
        InvalidRequest: There is no URL, or an option or piece of metadata is none that can be.
        ServerUnreachable: A name cannot be resolved.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        model: str,
        *,
        timeout_s: float = 1.0,
        policies: Policies | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] | None = None,
        latencies: bool = False,
        tracing: bool = False,
        zone: str = "",
        zones: Mapping[str, str] | Callable[[str], str] | None = None,
        resolver: Resolver = addresses,
        shared_memory: SharedMemory = "auto",
    ) -> None:
        urls = [url] if isinstance(url, str) else list(url)
        if not urls:
            raise InvalidRequest(f"model {model!r}: no URL was given; give one host:port or more")
        self.url = ", ".join(urls)
        self.model = model
        self.timeout_s = _seconds(timeout_s)
        sent = sendable(metadata or {})
        self._latencies = Histogram() if latencies else None
        self.policies = policies or Policies()
        self._tracing = self._traced(model) if tracing else None
        if shared_memory not in get_args(SharedMemory):
            raise InvalidRequest(
                f"shared_memory is {shared_memory!r:.40}; give 'auto', 'never' or 'always'"
            )
        names, near = Names(urls, resolver), nearness(zone, zones)
        self._fleet = Fleet(
            names,
            model,
            self.policies,
            credentials,
            sent,
            tracing=self._tracing,
            near=near,
            shared_memory=shared_memory,
        )
        variant = self.policies.degrade.variant if self.policies.degrade else None
        self._variant = (
            Fleet(
                names,
                variant,
                self.policies,
                credentials,
                sent,
                tracing=self._traced(variant) if tracing else None,
                near=near,
                shared_memory=shared_memory,
            )
            if variant
            else None
        )

    @staticmethod
    def _traced(model: str) -> Tracing:
        from client.tracing import Tracing

        return Tracing(model)

    def counts(self) -> dict[str, int]:
        """Return what happened so far, by name.

        ``requests`` (or parts of one), ``calls``, ``retries``, ``hedges``, ``hedges_won``,
        ``retries_over_budget``, ``hedges_over_budget``, ``late``, ``shed``, ``degraded``,
        ``probes``. What never happened is not in it.
        """
        return dict(self._fleet.counts)

    def replicas(self) -> list[dict[str, Any]]:
        """Return each one's ``url``, calls ``under_way``, ``ejected``, ``limit`` and ``near``."""
        return self._fleet.state()

    def metrics(self) -> str:
        """Return what happened so far in Prometheus' text format, for a service's own page."""
        return prometheus(self.model, self.counts(), self.replicas(), self._latencies)

    def _degrading(self) -> Degrading:
        """Return what is allowed.

        Raises:
            InvalidRequest: Nothing is.
        """
        if self.policies.degrade is None:
            raise InvalidRequest(
                "nothing may be answered in place of all scores: make the client with "
                "policies=Policies(degrade=Degrading(…)), or ask `rank`"
            )
        return self.policies.degrade

    def _best_effort(
        self,
        served: ServedModel,
        variant: ServedModel | None,
        request: RankingRequest,
        timeout_s: float,
        inbox: Any,
    ) -> BestEffort:
        """Begin to ask for the whole; ``inbox`` is told of ends, which `advance` is to hear."""
        degrading = self._degrading()
        (questions,) = self._questions(served, [request])

        def gather(fleet: Fleet, of: list[Question], which: int, seconds: float) -> Gathering:
            return Gathering(
                fleet,
                of,
                seconds,
                AT_ONCE,
                lambda heard: inbox.tell((which, heard)),
                waiting=inbox,
                keep=True,
            )

        less = None
        if degrading.asks_less:
            asked = first(request, degrading.fewer)
            how = ["variant"] if variant else []
            how += ["fewer candidates"] if asked is not request else []
            fleet = self._variant or self._fleet
            if how:
                (cheaper,) = self._questions(variant or served, [asked])
                less = Less(
                    cheaper, partial(gather, fleet, cheaper, LESS), fleet.model, ", ".join(how)
                )
        return BestEffort(
            gather(self._fleet, questions, WHOLE, timeout_s),
            questions,
            less,
            degrading=degrading,
            model=self.model,
            timeout_s=timeout_s,
        )

    def _took_best_effort(self, ranked: Ranked, began: float) -> Ranked:
        if not ranked.complete:
            self._fleet.count("degraded")
        self._took(began)
        return ranked

    def _budget_s(self, timeout_s: float | None) -> float:
        return self.timeout_s if timeout_s is None else _seconds(timeout_s)

    def _close(self) -> None:
        for each in (self._fleet, self._variant):
            if each:
                each.close(DRAIN_S)

    def _took(self, began: float) -> None:
        if self._latencies is not None:
            self._latencies.observe(time.monotonic() - began)

    def _questions(
        self, served: ServedModel, requests: Sequence[RankingRequest]
    ) -> list[list[Question]]:
        asked = []
        for place, each in enumerate(requests):
            try:
                if not isinstance(each, RankingRequest):
                    raise RequestError(  # noqa: TRY301 - as what does not fit
                        f"got a {type(each).__name__} as a request; expected a RankingRequest: "
                        "`request` of the client makes one"
                    )
                asked.append(served.split(each))
            except RequestError as error:
                which = f"request {place} of {len(requests)}: " if len(requests) > 1 else ""
                raise InvalidRequest(
                    f"model {self.model!r} at {self.url}: {which}{error}"
                ) from error
        return asked

    def _describing_s(self, timeout_s: float) -> float:
        return max(timeout_s, 5.0)


def _seconds(given: Any) -> float:
    if not isinstance(given, Real) or math.isnan(given):
        raise InvalidRequest(f"timeout_s is {given!r:.40}; give seconds")
    return float(given)


def check_at_once(at_once: int) -> None:
    """Check how many calls may be under way.

    Raises:
        InvalidRequest: None may.
    """
    if at_once < 1:
        raise InvalidRequest(f"at_once is {at_once}; let 1 call or more be under way")


def same(one: ServedModel, other: ServedModel) -> bool:
    """Tell whether two descriptions of a model are equal."""
    return (one.signature, one.max_candidates) == (other.signature, other.max_candidates)


__all__ = [
    "AT_ONCE",
    "DRAIN_S",
    "Ranking",
    "best",
    "check_at_once",
    "check_k",
    "merged",
    "ranking_request",
    "same",
]
