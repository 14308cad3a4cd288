"""Calls that nobody waits for any more, waited for to their ends (docs/decisions/008)."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended
    from client.http2 import Connection


_LINGERS_S = 10.0


class LateCalls:
    """Those of one server. A thread waits for them while there are any, and a while for more.

    Each hedge leaves one behind, and a thread for each would cost more than the hedge.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: list[tuple[Connection, Callable[[Ended], None]]] = []
        self._wake: socket.socket | None = None  # of the thread, while it runs
        self._closed = False

    def adopt(self, connection: Connection, end: Callable[[Ended], None]) -> None:
        """Wait for the connection's call; ``end`` is told how it ended, by the thread."""
        with self._lock:
            self._new.append((connection, end))
            if self._wake is not None:
                with contextlib.suppress(BlockingIOError):  # it has not woken up yet
                    self._wake.send(b"\0")
                return
            self._wake, theirs = socket.socketpair()
            self._wake.setblocking(False)
        threading.Thread(
            target=self._listen, args=(theirs,), name="rankserve-late", daemon=True
        ).start()

    def close(self) -> None:
        """Have the thread end with the last call that there is."""
        with self._lock:
            self._closed = True
            if self._wake is not None:
                with contextlib.suppress(BlockingIOError):
                    self._wake.send(b"\0")

    def _listen(self, woken: socket.socket) -> None:
        with selectors.DefaultSelector() as selector, woken:
            selector.register(woken, selectors.EVENT_READ)
            waiting = 0
            idle = False
            while True:
                with self._lock:
                    new, self._new = self._new, []
                    enough = idle or self._closed
                    if enough and not new and not waiting and self._wake is not None:
                        self._wake.close()
                        self._wake = None
                        return
                for connection, end in new:
                    selector.register(connection, _events(connection), end)
                waiting += len(new)
                ready = selector.select(None if waiting else _LINGERS_S)
                idle = not ready
                for key, _ in ready:
                    if key.data is None:
                        woken.recv(1 << 10)
                    else:
                        waiting -= _advance(selector, key)


def _advance(selector: selectors.BaseSelector, key: selectors.SelectorKey) -> bool:
    """Tell whether the call has ended."""
    connection: Connection = key.fileobj  # type: ignore[assignment]
    ended = connection.advance()
    if ended is None:
        events = _events(connection)
        if events != key.events:
            selector.modify(connection, events, key.data)
        return False
    selector.unregister(connection)
    key.data(ended)
    return True


def _events(connection: Connection) -> int:
    return selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.unsent else 0)
