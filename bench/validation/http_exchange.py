"""HTTP/1.1 on a socket, with nothing around it: the least that a request over HTTP can cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket


def exchange(connection: socket.socket, message: bytes) -> bytes:
    """Send a request over HTTP, and return the body of its answer."""
    connection.sendall(message)
    read = bytearray()
    while (end := read.find(b"\r\n\r\n")) < 0:
        read += connection.recv(1 << 16)
    head = bytes(read[:end]).lower()
    if not head.startswith(b"http/1.1 200"):
        raise OSError(head.decode("latin-1"))
    length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
    whole = end + 4 + length
    while len(read) < whole:
        read += connection.recv(1 << 20)
    return bytes(read[end + 4 : whole])
