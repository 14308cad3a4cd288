"""The servers of one model: who they are, and what is sent to them. Safe to use from threads."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import grpc

from client.balancer import Balancer
from client.channel import explain, too_late
from client.description import Description
from client.discovery import Rediscovery
from client.errors import RankClientError
from client.members import Endpoint, Members

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.asking import Asked
    from client.completions import Ended, Metadata
    from client.discovery import Names
    from client.inbox import Waiting
    from client.policies import Policies
    from client.served_model import ServedModel
    from client.sharing import SharedMemory
    from client.tracing import Tracing
    from client.unhurried import Body


class Fleet(Balancer):
    """All servers that a client asks for one model.

    Args:
        names: Of the servers.
        model: Its name.
        policies: What is done when servers are not calm.
        credentials: Of gRPC, for TLS.
        metadata: Sent with every call.
        tracing: Makes spans of calls; None for no traces.
        near: Tells of a URL whether it is in the client's own zone.
        shared_memory: Whether requests go through it, where a server is on this host.

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
        shared_memory: SharedMemory = "auto",
    ) -> None:
        members = Members(
            lambda target: Endpoint(target, credentials, metadata, shared_memory), policies, near
        )
        super().__init__(members, model, policies)
        self.tracing = tracing
        self._names = names
        self._description = Description(model)
        self._closed = False
        self._members.renew(names.targets())
        self.several = len(self.replicas) > 1
        self._simple = not self.several and not names.change
        self._rediscovery = Rediscovery(self, policies.rediscover_s) if names.change else None

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
            ended = self.endpoints[0].calls.ask(partial(question.body, timeout_s), timeout_s)
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
        body: Body,
        then: Callable[[Ended], None],
        kind: str = "first",
        waiting: Waiting | None = None,
    ) -> None:
        """Send a request to the replica that was picked.

        Args:
            place: Its own.
            body: Makes the request.
            then: Is told how the call ended.
            kind: What traces call it.
            waiting: Who waits for it in its own thread, if one does.
        """
        traced = (
            None if self.tracing is None else self.tracing.call(self.endpoints[place].url, kind)
        )
        call, under_way = self._begun(place)

        def end(ended: Ended) -> None:
            self._learn(place, call, ended, under_way)
            if traced is not None:
                traced.ended(ended)
            then(ended)

        self.endpoints[place].calls.start(
            body, end, metadata=() if traced is None else traced.metadata, waiting=waiting
        )

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

    def _missing(self) -> None:
        if self._rediscovery is not None:
            self._rediscovery.soon()
