"""Frames of HTTP/2 (RFC 9113), as far as unary calls of gRPC need them."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from client.header_blocks import literal

if TYPE_CHECKING:
    from client.completions import Metadata

HEAD = struct.Struct(">HBBBI")  # the length in two parts, type, flags, stream
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE = 0, 1, 3, 4, 5
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 6, 7, 8, 9
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITY = 4, 8, 0x20
INITIAL_WINDOW, MAX_FRAME = 4, 5
_TABLE_SIZE, _ENABLE_PUSH = 1, 2
WINDOW = 2**31 - 1
FIRST_WINDOW, FIRST_FRAME = 65_535, 16_384
OUR_FRAME = 1 << 20


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return a whole frame."""
    return head(kind, flags, stream, len(payload)) + payload


def head(kind: int, flags: int, stream: int, length: int) -> bytes:
    """Return what comes before a frame's payload."""
    return HEAD.pack(length >> 8, length & 0xFF, kind, flags, stream)


def hello() -> bytes:
    """Return what a client says first: no table of headers, wide windows, long frames."""
    settings = ((_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (INITIAL_WINDOW, WINDOW))
    payload = b"".join(struct.pack(">HI", *each) for each in (*settings, (MAX_FRAME, OUR_FRAME)))
    wide = frame(WINDOW_UPDATE, 0, 0, (WINDOW - FIRST_WINDOW).to_bytes(4))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, payload) + wide


def call_headers(authority: str, method: str, metadata: Metadata) -> bytes:
    """Return the headers of a call as a block."""
    pseudo = {":method": "POST", ":scheme": "http", ":path": method, ":authority": authority}
    fixed = {"te": "trailers", "content-type": "application/grpc", "user-agent": "rankserve"}
    return literal((*pseudo.items(), *fixed.items(), *metadata))
