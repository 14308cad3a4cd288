"""Where one caller hears of the ends of its calls: some it waits for itself, some others tell."""

from __future__ import annotations

from collections import deque
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Protocol

from client.readiness import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended
    from client.connections import Connections
    from client.http2 import Connection

# The longest wait that a lock takes, and more than anybody waits.
_LONGEST_S = 1e6


class Waiting(Protocol):
    """One who waits for calls on connections, in its own thread."""

    def watch(self, connection: Connection, end: Callable[[Ended], None], of: Connections) -> None:
        """Wait for the connection's call too; ``end`` is told how it ended."""
        ...

    def expect(self) -> None:
        """Wait for what another thread tells, too: to be said before it can."""
        ...


class Inbox:
    """The ends of the calls of one caller that is a thread.

    While all its calls are on connections, it waits for those. As soon as one goes by gRPC, whose
    end another thread tells, the others are given to threads as well, and it waits for a queue.
    """

    def __init__(self) -> None:
        self._told: deque[Any] = deque()
        self._queue: SimpleQueue[Any] | None = None
        self._watched: dict[Connection, tuple[Callable[[Ended], None], Connections]] = {}

    def tell(self, heard: Any) -> None:
        """Hand over, from any thread."""
        if self._queue is None:
            self._told.append(heard)
        else:
            self._queue.put(heard)

    def expect(self) -> None:
        """Wait for what another thread tells, too: to be said before it can."""
        if self._queue is None:
            queue: SimpleQueue[Any] = SimpleQueue()
            for each in self._told:
                queue.put(each)
            self._told.clear()
            self._queue = queue
            self.leave()

    def watch(self, connection: Connection, end: Callable[[Ended], None], of: Connections) -> None:
        """Wait for the connection's call too; ``end`` is told how it ended."""
        if self._queue is not None:
            of.adopt(connection, end)
        else:
            self._watched[connection] = end, of

    def get(self, wait_s: float) -> Any:
        """Return the next, or None if none came in time."""
        wait_s = min(wait_s, _LONGEST_S)
        if self._queue is not None:
            try:
                return self._queue.get(timeout=wait_s)
            except Empty:
                return None
        if not self._told:
            watched = list(self._watched)
            for each in watched if len(watched) == 1 else ready(watched, wait_s):
                ended = each.wait(wait_s) if len(watched) == 1 else each.advance()
                if ended is not None:
                    end, _ = self._watched.pop(each)
                    end(ended)
        return self._told.popleft() if self._told else None

    def leave(self) -> None:
        """Wait no more: what is under way is left to its end."""
        while self._watched:
            connection, (end, of) = self._watched.popitem()
            of.adopt(connection, end)
