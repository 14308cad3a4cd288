"""Where one coroutine hears of the ends of its calls."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended
    from client.connections import Connections
    from client.http2 import Connection

# The longest sleep that every event loop takes.
_LONGEST_S = 86_400.0


class AsyncInbox:
    """As `client.inbox.Inbox`. Connections are waited for by the event loop itself."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._told: deque[Any] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._watched: dict[Connection, tuple[Callable[[Ended], None], Connections]] = {}

    def tell(self, heard: Any) -> None:
        """Hand over, from any thread."""
        if threading.get_ident() == self._thread:
            self._deliver(heard)
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._deliver, heard)

    def expect(self) -> None:
        """Do nothing: another thread may tell at any time."""

    def watch(self, connection: Connection, end: Callable[[Ended], None], of: Connections) -> None:
        """Wait for the connection's call too; ``end`` is told how it ended."""
        self._watched[connection] = end, of
        try:
            self._loop.add_reader(connection.fileno(), self._ready, connection)
            if connection.unsent:
                self._loop.add_writer(connection.fileno(), self._ready, connection)
        except NotImplementedError:  # a loop that watches no sockets
            self._watched.pop(connection)
            of.adopt(connection, end)

    async def get(self, wait_s: float) -> Any:
        """Return the next, or None if none came in time."""
        if not self._told:
            self._waiter = self._loop.create_future()
            timer = self._loop.call_later(min(wait_s, _LONGEST_S), self._wake)
            try:
                await self._waiter
            finally:
                timer.cancel()
                self._waiter = None
        return self._told.popleft() if self._told else None

    def leave(self) -> None:
        """Wait no more: what is under way is left to its end."""
        for connection in list(self._watched):
            end, of = self._unwatch(connection)
            of.adopt(connection, end)

    def _ready(self, connection: Connection) -> None:
        ended = connection.advance()
        if ended is not None:
            end, _ = self._unwatch(connection)
            end(ended)
        elif not connection.unsent:
            self._loop.remove_writer(connection.fileno())

    def _unwatch(self, connection: Connection) -> tuple[Callable[[Ended], None], Connections]:
        with contextlib.suppress(RuntimeError):  # the loop was closed
            self._loop.remove_reader(connection.fileno())
            self._loop.remove_writer(connection.fileno())
        return self._watched.pop(connection)

    def _deliver(self, heard: Any) -> None:
        self._told.append(heard)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
