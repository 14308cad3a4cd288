"""A listener that is no gRPC server: it hangs up, talks nonsense, or breaks HTTP/2 (RFC 9113)."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = bytes.fromhex("000000040000000000")
_HEADERS = b"\x88" + b"\x00\x0ccontent-type\x10application/grpc"  # :status 200, HPACK (RFC 7541)
_HTML = b"\x88" + b"\x00\x0ccontent-type\x09text/html"
_TRAILERS = b"\x00\x0bgrpc-status\x010"
_NO_STATUS = b"\x00\x0bgrpc-status\x03abc"


def _frame(kind: int, flags: int, payload: bytes, stream: int = 1) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _message(prefix: bytes, *, headers: bytes = _HEADERS, trailers: bytes = _TRAILERS) -> bytes:
    return (
        _SETTINGS
        + _frame(1, 4, headers)
        + _frame(0, 0, prefix + b"spoilt")
        + _frame(1, 5, trailers)
    )


# What is said to each connection in turn, when its first bytes have come, before hanging up.
SAID = {
    "nothing": b"",
    "noise": bytes(range(256)) * 8,
    "HTTP/1.1": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
    "settings alone": _SETTINGS,
    "GOAWAY": _SETTINGS + _frame(7, 0, bytes(8), 0),
    "RST_STREAM": _SETTINGS + _frame(3, 0, (2).to_bytes(4)),
    "a frame longer than allowed": _SETTINGS + b"\xff\xff\xff\x00\x00" + bytes(4),
    "a message of 4 GiB, cut off": _message(b"\x00\xff\xff\xff\xff"),
    "a compressed message that is none": _message(b"\x01\x00\x00\x00\x06"),
    "two messages": _message(b"\x00\x00\x00\x00\x01x\x00\x00\x00\x00\x00"),
    "no gRPC": _message(b"\x00\x00\x00\x00\x06", headers=_HTML),
    "a status that is no number": _message(b"\x00\x00\x00\x00\x06", trailers=_NO_STATUS),
    "headers that are none": _SETTINGS + _frame(1, 5, b"\xff" * 40),
}


@contextmanager
def hostile_wire() -> Iterator[str]:
    """Listen in threads of this process; give the ``host:port``."""
    turns = itertools.cycle(SAID.values())
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk(connection: socket.socket, said: bytes) -> None:
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5.0)
                connection.recv(1 << 16)
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        def accept() -> None:
            with contextlib.suppress(OSError):  # the listener was closed
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=talk, args=(connection, next(turns))).start()

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
