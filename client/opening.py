"""Opening connections, and making a call on one and waiting for it."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import grpc

from client.http2 import Connection
from client.server_url import host_and_port

if TYPE_CHECKING:
    from client.completions import Ended

OPENING_S = 5.0
_LONGEST_WAIT_S = 1e6
# A host that vanished is found within 90 s while idle, 30 s while it is to receive something.
_KEEP_ALIVE = {
    "TCP_KEEPIDLE": 60,
    "TCP_KEEPINTVL": 10,
    "TCP_KEEPCNT": 3,
    "TCP_USER_TIMEOUT": 30_000,
}


def opened(url: str, live: bytes) -> Connection | None:
    """Open a connection, and make a call of nothing on it; None if its answer is not understood.

    Raises:
        OSError: Nobody answers.
    """
    host, port = host_and_port(url)
    connected = socket.create_connection((host, port or 0), OPENING_S)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    connection = Connection(connected)
    connection.local = connected.getsockname()[0] == connected.getpeername()[0]
    ended = call(connection, live, b"")
    if ended is not None and ended.code is not grpc.StatusCode.UNAVAILABLE:
        understood = ended.code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
        if understood and connection.usable:
            return connection
        connection.close()
        return None
    connection.close()
    raise OSError(f"{url}: no answer")


def call(
    connection: Connection, headers: bytes, message: bytes, seconds: float = OPENING_S
) -> Ended | None:
    """Make a call on a connection that carries none; return how it ended, None if it is late."""
    connection.begin(headers, message)
    return wait(connection, seconds)


def wait(connection: Connection, seconds: float) -> Ended | None:
    """Return how the connection's call ended; None if it did not in time."""
    seconds = min(seconds, _LONGEST_WAIT_S)
    until = time.monotonic() + seconds
    while seconds > 0:
        ended = connection.wait(seconds)
        if ended is not None:
            return ended
        seconds = until - time.monotonic()
    return None
