"""A gRPC server that costs next to nothing: what is left of a request's time is the caller's own.

gRPC's own server in Python spends as much on a request as its client does, and on a small machine
it is then the server that limits how many requests the client can send. This one reads HTTP/2
frames (RFC 9113) and answers each request that has ended with the same bytes, whatever was asked:
its method and headers are not even decoded. That takes some 20 µs. For measuring a caller, and for
nothing else.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEAD = 9  # bytes of a frame before its payload: length, type, flags, stream
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_ACK = _END_STREAM = 1
_END_HEADERS = 4
_WINDOW = 1 << 24  # bytes under way, of a stream and of the connection: larger requests hang
_MOST_STREAMS = 2**31 - 1
_INITIAL_WINDOW = 65_535
_MAX_STREAMS, _WINDOW_OF_STREAM = 3, 4  # settings


@contextmanager
def null_server(answer: bytes) -> Iterator[tuple[str, BaseProcess]]:
    """Run the server in a process of its own.

    Args:
        answer: The serialized message that every request is answered with, at most 16 kB.

    Yields:
        ``host:port``, and the process.
    """
    # Not forked: gRPC does not outlive a fork.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, answer), daemon=True)
    process.start()
    theirs.close()
    try:
        yield f"127.0.0.1:{ours.recv()}", process
    finally:
        ours.close()  # the server ends with it
        process.join(5.0)
        process.terminate()
        process.join()


def _serve(pipe: Connection, answer: bytes) -> None:
    """Listen until the other end closes the pipe."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=_talk, args=(connection, answer), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        pipe.send(listener.getsockname()[1])
        try:
            pipe.recv()
        except EOFError:
            return


def _talk(connection: socket.socket, answer: bytes) -> None:
    """Answer the requests of one connection until it ends."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    pieces = _pieces(answer)
    settings = b"".join(
        name.to_bytes(2) + value.to_bytes(4)
        for name, value in ((_MAX_STREAMS, _MOST_STREAMS), (_WINDOW_OF_STREAM, _WINDOW))
    )
    wide = (_WINDOW - _INITIAL_WINDOW).to_bytes(4)
    connection.sendall(_frame(_SETTINGS, 0, settings) + _frame(_WINDOW_UPDATE, 0, wide))
    read = bytearray()
    while len(read) < len(_PREFACE):
        received = connection.recv(len(_PREFACE) - len(read))
        if not received:
            return
        read += received
    read.clear()
    unacknowledged = 0
    while received := connection.recv(1 << 18):
        read += received
        replies, data_bytes = _take(read, pieces)
        unacknowledged += data_bytes
        if unacknowledged > _WINDOW // 4:
            replies.append(_frame(_WINDOW_UPDATE, 0, unacknowledged.to_bytes(4)))
            unacknowledged = 0
        if replies:
            connection.sendall(b"".join(replies))


def _take(read: bytearray, pieces: tuple[bytes, bytes, bytes, bytes]) -> tuple[list[bytes], int]:
    """Take the whole frames off what was read; return replies, and how much of it was data."""
    replies: list[bytes] = []
    at = data_bytes = 0
    while len(read) >= at + _HEAD:
        length, kind, flags = int.from_bytes(read[at : at + 3]), read[at + 3], read[at + 4]
        end = at + _HEAD + length
        if len(read) < end:
            break
        if kind == _DATA:
            data_bytes += length
            if flags & _END_STREAM:
                replies.append(bytes(read[at + 5 : at + _HEAD]).join(pieces))
        elif kind == _SETTINGS and not flags & _ACK:
            replies.append(_frame(_SETTINGS, _ACK, b""))
        elif kind == _PING and not flags & _ACK:
            replies.append(_frame(_PING, _ACK, bytes(read[at + _HEAD : end])))
        at = end
    del read[:at]
    return replies, data_bytes


def _pieces(answer: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Return an answer's three frames, cut where the number of its stream goes."""
    # HPACK (RFC 7541): 0x88 is ``:status: 200``; the others are literals that are not indexed.
    headers = b"\x88" + _literal(b"content-type", b"application/grpc")
    message = b"\x00" + len(answer).to_bytes(4) + answer  # not compressed
    trailers = _literal(b"grpc-status", b"0")
    return (
        _before_stream(_HEADERS, _END_HEADERS, headers),
        headers + _before_stream(_DATA, 0, message),
        message + _before_stream(_HEADERS, _END_HEADERS | _END_STREAM, trailers),
        trailers,
    )


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _before_stream(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags])


def _frame(kind: int, flags: int, payload: bytes) -> bytes:
    """Return a frame of the whole connection: stream 0."""
    return _before_stream(kind, flags, payload) + bytes(4) + payload
