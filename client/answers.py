"""What a server says to one call, frame by frame, and how the call ended by it."""

from __future__ import annotations

import grpc

from client.completions import Ended
from client.frames import CONTINUATION, END_HEADERS, END_STREAM, PADDED, PRIORITY
from client.header_blocks import NotUnderstood, read, said

# An answer above it is none: 64 million scores.
_LONGEST_ANSWER = 1 << 28
_LONGEST_BLOCK = 1 << 16
_KEPT_BLOCKS, _KEPT_BYTES = 64, 256
_CODES = {each.value[0]: each for each in grpc.StatusCode}
# What an error code of HTTP/2 is in gRPC, and a status of HTTP's own where there is none of gRPC.
_OF_RESET = {
    7: grpc.StatusCode.UNAVAILABLE,
    8: grpc.StatusCode.CANCELLED,
    11: grpc.StatusCode.RESOURCE_EXHAUSTED,
    12: grpc.StatusCode.PERMISSION_DENIED,
}
_OF_HTTP = {
    "400": grpc.StatusCode.INTERNAL,
    "401": grpc.StatusCode.UNAUTHENTICATED,
    "403": grpc.StatusCode.PERMISSION_DENIED,
    "404": grpc.StatusCode.UNIMPLEMENTED,
    **dict.fromkeys(("429", "502", "503", "504"), grpc.StatusCode.UNAVAILABLE),
}


class Answers:
    """The answers on one connection, one after the other. `begin` comes before each."""

    def __init__(self) -> None:
        self._blocks: dict[bytes, dict[str, str]] = {}  # what was read before
        self._block, self._block_flags = b"", 0  # headers that go on
        self.begin()

    def begin(self) -> None:
        """Forget what was said to the call before."""
        self._headers: dict[str, str] | None = None
        self._parts: list[bytes] = []
        self._bytes = 0

    @property
    def goes_on(self) -> bool:
        """Whether the rest of a block of headers is to come, and nothing else."""
        return self._block_flags != 0

    def data(self, flags: int, payload: bytes) -> Ended | None:
        """Hear data of the call; return how it ended if it has."""
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]] if payload else b""
        self._parts.append(payload)
        self._bytes += len(payload)
        if self._bytes > _LONGEST_ANSWER:
            raise NotUnderstood("an answer longer than any can be")
        return self._ended({}) if flags & END_STREAM else None

    def headers(self, kind: int, flags: int, payload: bytes, *, ours: bool) -> Ended | None:
        """Hear headers; those that are not ``ours`` are of a call that ended."""
        if kind == CONTINUATION:
            if not self._block_flags:
                raise NotUnderstood("headers that go on before they begin")
            payload, flags = self._block + payload, flags | (self._block_flags & END_STREAM)
        elif flags & (PADDED | PRIORITY):
            begin = bool(flags & PADDED) + 5 * bool(flags & PRIORITY)
            padding = payload[0] if flags & PADDED and payload else 0
            payload = payload[begin : len(payload) - padding]
        if len(payload) > _LONGEST_BLOCK:
            raise NotUnderstood("headers of more than 64 KiB")
        if not flags & END_HEADERS:
            self._block, self._block_flags = payload, flags | PADDED  # so that it is never 0
            return None
        self._block, self._block_flags = b"", 0
        headers = self._blocks.get(payload)
        if headers is None:
            headers = read(payload)
            if len(payload) < _KEPT_BYTES and len(self._blocks) < _KEPT_BLOCKS:
                self._blocks[payload] = headers
        if not ours:
            return None
        if self._headers is None:
            self._headers = headers
        return self._ended(headers) if flags & END_STREAM else None

    def _ended(self, trailers: dict[str, str]) -> Ended:
        """Return how the call ended, given what came last."""
        first, status = self._headers or {}, trailers.get("grpc-status", "")
        if first.get(":status") != "200" or not (status.isascii() and status.isdecimal()):
            code = _OF_HTTP.get(first.get(":status", ""), grpc.StatusCode.UNKNOWN)
            return Ended(None, code, f"no answer of gRPC: HTTP {first.get(':status', '?')}")
        if status != "0":
            return Ended(None, _CODES.get(int(status[:4]), _CODES[2]), said(trailers))
        parts = self._parts
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        if len(whole) < 5 or whole[0] or int.from_bytes(whole[1:5]) != len(whole) - 5:
            return Ended(None, grpc.StatusCode.INTERNAL, "damaged response: not one message")
        return Ended(whole[5:])


def reset(code: int) -> Ended:
    """Return how a call ended that the server reset."""
    known = _OF_RESET.get(code, grpc.StatusCode.INTERNAL)
    return Ended(None, known, f"the server reset the call (code {code} of HTTP/2)")
