"""Calls that are waited for as long as a caller allows, and never cancelled.

Triton up to 2.51 at least aborts when an inference is cancelled at the wrong moment, be it by a
passing gRPC deadline: in one of some 300 to 1,400 cancellations here (docs/decisions/008). So the
wait ends at the client alone. The server drops what nobody waits for from its queue by itself, as
every request carries its ``timeout``; what it has begun to compute it would finish in any case.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import grpc

from client.completions import Ended, Metadata, PublicFutures, Starter, cheapest_starter
from client.connections import INFER, Connections
from client.errors import ClientForked
from client.opening import wait

if TYPE_CHECKING:
    from client.http2 import Connection
    from client.inbox import Waiting
    from client.sharing import Share

_LOG = logging.getLogger(__name__)
# The longest wait that a lock takes.
LONGEST_S = min(threading.TIMEOUT_MAX, 1e6)
# How long a process that ends waits for what nobody waits for any more.
_AT_EXIT_S = 5.0


Body = Callable[["Share | None"], bytes]
"""Makes a request's bytes, given where its tensors may lie in shared memory."""


class UnhurriedCalls:
    """The calls on one channel. It belongs to them: `close` closes it.

    Args:
        channel: Of gRPC. No ``future`` of it is to be used elsewhere.
        metadata: Sent with every call, such as a token.
        public: Use only gRPC's public surface, at its price.
        connections: To the same server, for inferences; they belong to the calls, too.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        *,
        metadata: Metadata = (),
        public: bool = False,
        connections: Connections | None = None,
    ) -> None:
        self._connections = connections
        self._starter: Starter = PublicFutures(channel) if public else cheapest_starter(channel)
        self._metadata = metadata
        self._process = os.getpid()
        self._count = _Count()
        # gRPC aborts a process that ends while one of its threads is still listening.
        self._end = weakref.finalize(
            self, _end, self._starter, connections, self._count, self._process, _AT_EXIT_S
        )

    @property
    def under_way(self) -> int:
        """How many calls have not ended, waited for or not."""
        return self._count.value

    def check_process(self) -> None:
        """Check that the channel is this process's.

        Raises:
            ClientForked: It was made before a fork.
        """
        if os.getpid() != self._process:
            raise ClientForked

    def start(
        self,
        body: bytes | Body,
        then: Callable[[Ended], None],
        method: str = INFER,
        metadata: Metadata = (),
        waiting: Waiting | None = None,
    ) -> None:
        """Send a serialized request; ``then`` is told how it ended, once, by any thread.

        ``metadata`` goes along with what is sent with every call. An inference goes over a
        connection of its own where one is idle and there is ``waiting``, who waits for it.

        Raises:
            ClientForked: The channel was made by another process.
        """
        self.check_process()
        count = self._count
        if waiting is not None and self._connections is not None and method == INFER:
            connection = self._connections.take(count.value)
            if connection is not None:
                self._start_on(connection, body, then, metadata, waiting)
                return
        if waiting is not None:
            waiting.expect()
        count.add(1)

        def end(ended: Ended) -> None:
            count.add(-1)
            _tell(then, ended)

        try:
            sent = body if isinstance(body, bytes) else body(None)
            self._starter.start(method, sent, self._metadata + metadata, end)
        except ValueError as error:  # the channel was closed
            end(Ended(None, grpc.StatusCode.CANCELLED, str(error)))

    def __call__(self, body: bytes, timeout_s: float) -> Any:
        """Return the ``ModelInferResponse``.

        Raises:
            TimeoutError: It did not come within ``timeout_s`` seconds. Without any time left
                nothing is sent.
            CallFailed: The call failed.
            ClientForked: The channel was made by another process.
        """
        return self.ask(body, timeout_s).inferred()

    def ask(self, body: bytes | Body, timeout_s: float) -> Ended:
        """Return how the call ended. Raises as it does when called, but for `CallFailed`."""
        if timeout_s <= 0:
            raise TimeoutError
        self.check_process()
        if self._connections is not None:
            connection = self._connections.take(self._count.value)
            if connection is not None:
                return self._ask_on(connection, body, timeout_s)
        ended: SimpleQueue[Ended] = SimpleQueue()
        self.start(body, ended.put)
        try:
            return ended.get(timeout=min(timeout_s, LONGEST_S))
        except Empty:
            raise TimeoutError from None

    def close(self, patience_s: float) -> None:
        """Close the channel when no call is under way any more, or patience ends."""
        if self._end.detach():
            _end(self._starter, self._connections, self._count, self._process, patience_s)

    def _start_on(
        self,
        connection: Connection,
        body: bytes | Body,
        then: Callable[[Ended], None],
        metadata: Metadata,
        waiting: Waiting,
    ) -> None:
        connections, count = self._connections, self._count
        assert connections is not None  # noqa: S101 - the connection is one of them
        count.add(1)

        def end(ended: Ended) -> None:
            if connections.lost(connection, ended):
                connections.begin(connection, body, metadata)
                waiting.watch(connection, end, connections)
                return
            count.add(-1)
            connections.give(connection)
            _tell(then, ended)

        connections.begin(connection, body, metadata)
        waiting.watch(connection, end, connections)

    def _ask_on(self, connection: Connection, body: bytes | Body, timeout_s: float) -> Ended:
        """Ask, and wait; nobody else needs to know."""
        connections, count = self._connections, self._count
        assert connections is not None  # noqa: S101 - the connection is one of them
        count.add(1)
        connections.begin(connection, body)
        ended = None
        try:
            ended = wait(connection, timeout_s)
            if ended is not None and connections.lost(connection, ended):
                connections.begin(connection, body)
                ended = None
                ended = wait(connection, timeout_s)
        finally:  # an interrupted caller leaves its call to its end, too
            if ended is not None:
                count.add(-1)
                connections.give(connection)
            else:
                connections.adopt(connection, partial(_left, connections, connection, count))
        if ended is None:
            raise TimeoutError
        return ended


def _left(connections: Connections, connection: Connection, count: _Count, _: Ended) -> None:
    """Take back the connection of a call that nobody waited for."""
    count.add(-1)
    connections.give(connection)


def _tell(then: Callable[[Ended], None], ended: Ended) -> None:
    try:
        then(ended)
    except Exception:  # noqa: BLE001 - the thread that says so is there for all calls
        _LOG.exception("a call's end could not be told")


class _Count:
    """How many calls are under way; some may wait for there to be none."""

    def __init__(self) -> None:
        self.value = 0
        self._lock = threading.Lock()
        self._none: threading.Event | None = None  # for those who wait

    def add(self, change: int) -> None:
        with self._lock:
            self.value += change
            if not self.value and self._none is not None:
                self._none.set()

    def wait(self, patience_s: float) -> None:
        until = time.monotonic() + patience_s
        while self.value and (left_s := until - time.monotonic()) > 0:
            with self._lock:
                if self._none is None or self._none.is_set():
                    self._none = threading.Event()
                none = self._none
                if not self.value:
                    return
            none.wait(min(left_s, LONGEST_S))


def _end(
    starter: Starter,
    connections: Connections | None,
    count: _Count,
    process: int,
    patience_s: float,
) -> None:
    if os.getpid() != process:  # a child has no thread that would end the calls of its parent
        return
    count.wait(patience_s)
    if connections is not None:
        connections.close()
    starter.close()
