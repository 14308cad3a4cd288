"""A connection to a gRPC server that carries one call at a time, on a socket of this process.

gRPC's own stack in Python spends some 200 µs of CPU time on a call whatever it carries, most of it
on handing the call from thread to thread; this spends a third of that (docs/decisions/032). It is
HTTP/2 (RFC 9113) as far as unary calls need it, without TLS. Nothing here waits: who has a
connection waits for its socket, and has it `advance`.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from typing import TYPE_CHECKING

import grpc

from client.answers import Answers, reset
from client.completions import Ended
from client.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FIRST_FRAME,
    FIRST_WINDOW,
    GOAWAY,
    HEAD,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    OUR_FRAME,
    PING,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
    frame,
    head,
    hello,
)
from client.header_blocks import NotUnderstood
from client.outbox import Outbox
from client.readiness import ready

if TYPE_CHECKING:
    from client.shared_regions import Region
    from client.sharing import Share

_READ = 1 << 16
_TIMEVAL = struct.Struct("@ll")
# Frames that wait while the other side sends and does not receive.
_MOST_QUEUED = 10_000
_LAST_STREAM = 2**31 - 3


class Connection:
    """One connection. Used by one thread at a time, but for `abort`.

    Args:
        connected: A socket that is connected; it belongs to the connection from here.

    Attributes:
        usable: Whether it may carry another call when the present one has ended.
        idle_since: When it last ended a call; for its owner, as what follows.
        local: Whether the server is on this host, as far as addresses tell.
        region: Of shared memory, that its calls may write to.
        share: Returns the region for a request of so many bytes, if it is to be there.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        connected.settimeout(None)  # what must not wait says so, each time
        self._patience_s = 0.0
        self._fileno = connected.fileno()
        self.usable, self.idle_since = True, 0.0
        self.local = False
        self.region: Region | None = None
        self.share: Share | None = None
        self._agreed = self._aborted = False
        self._next = 1  # stream
        self._stream = 0  # of the present call; 0 if there is none
        self._window = self._initial_window = FIRST_WINDOW
        self._stream_window = 0
        self._frame_bytes = FIRST_FRAME
        self._unacknowledged = 0
        self._queue = Outbox(connected)
        self._message: memoryview | None = None  # what the windows did not let pass yet
        self._read = bytearray()
        self._into = memoryview(bytearray(_READ))
        self._answers = Answers()
        self._send(hello())

    def fileno(self) -> int:
        """Return the socket's number, also after it was closed."""
        return self._fileno

    @property
    def unsent(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self._queue)

    def begin(self, headers: bytes, message: bytes) -> None:
        """Send a call, or as much of it as may be sent now. What fails is told by `advance`.

        Args:
            headers: As `client.frames.call_headers` makes them.
            message: Serialized.
        """
        stream = self._stream = self._next
        self._next += 2
        if self._next > _LAST_STREAM:
            self.usable = False
        self._answers.begin()
        self._stream_window = self._initial_window
        size = len(message)
        start = head(HEADERS, END_HEADERS, stream, len(headers)) + headers
        prefix = b"\x00" + size.to_bytes(4)
        size += 5
        if size <= self._frame_bytes and size <= self._window and size <= self._initial_window:
            self._window -= size
            self._send(start + head(DATA, END_STREAM, stream, size) + prefix, message)
        else:
            self._queue.append(start)  # it goes out with the first of the message
            self._message = memoryview(prefix + message)
            self._send_message()

    def wait(self, seconds: float) -> Ended | None:
        """Return how the call ended; None if nothing came for so long, or not all of the answer."""
        if self._queue:
            ready([self], seconds)
            return self.advance()
        if seconds != self._patience_s:
            self._patience_s = seconds
            micros = max(1, math.ceil(seconds * 1e6))
            patience = _TIMEVAL.pack(micros // 1_000_000, micros % 1_000_000)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        return self._receive(0)

    def advance(self) -> Ended | None:
        """Send and receive what is possible now; return how the call ended, once, if it has."""
        return self._receive(socket.MSG_DONTWAIT)

    def _receive(self, how: int) -> Ended | None:
        try:
            if self._queue:
                self._queue.flush()
            count = self._socket.recv_into(self._into, 0, how)
            if not count:
                return self._broken("the server closed the connection")
            return self._take(bytes(self._into[:count]))
        except BlockingIOError:
            return None
        except OSError as error:
            return self._broken(f"the connection broke: {error.strerror or error}")
        except NotUnderstood as error:
            return self._broken(f"not understood: {error}", grpc.StatusCode.INTERNAL)

    def abort(self) -> None:
        """End it, from any thread; who waits for its call is told."""
        self.usable, self._aborted = False, True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket. No call is to be under way."""
        self.usable = False
        self._socket.close()
        self._queue.clear()
        self._message = None

    def _broken(
        self, why: str, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE
    ) -> Ended | None:
        self.close()
        under_way, self._stream = self._stream, 0
        if self._aborted:
            code, why = grpc.StatusCode.CANCELLED, "the client was closed"
        return Ended(None, code, why) if under_way else None

    def _send(self, *parts: bytes) -> None:
        self._queue += parts
        try:
            self._queue.flush()
        except OSError:
            return  # it fails again when it receives, and is told there

    def _send_message(self) -> None:
        """Send as much of the message as the windows let pass."""
        message = self._message
        while message is not None:
            size = min(len(message), self._frame_bytes, self._window, self._stream_window)
            if size <= 0:
                break
            self._window -= size
            self._stream_window -= size
            part, rest = message[:size], message[size:]
            message = self._message = rest or None
            flags = 0 if rest else END_STREAM
            self._queue += (head(DATA, flags, self._stream, size), part)
        if self._queue:
            self._send()

    def _take(self, received: bytes) -> Ended | None:
        """Take the whole frames off what was received."""
        whole: bytes | bytearray = received
        if self._read:
            self._read += received
            whole = self._read
        at, end, ended = 0, len(whole), None
        while end - at >= HEAD.size:
            high, low, kind, flags, stream = HEAD.unpack_from(whole, at)
            after = at + HEAD.size + (high << 8 | low)
            try:
                if end < after:
                    if after - at > HEAD.size + OUR_FRAME:
                        raise NotUnderstood("a frame longer than allowed")  # noqa: TRY301 - as is
                    break
                payload = bytes(whole[at + HEAD.size : after])
                at = after
                ended = self._heard(kind, flags, stream & WINDOW, payload) or ended
            except NotUnderstood:
                if ended is None:
                    raise
                self.close()  # the call was answered before
                break
        if whole is self._read:
            del whole[:at]
        elif at < end:
            self._read += whole[at:]
        return ended

    def _heard(self, kind: int, flags: int, stream: int, payload: bytes) -> Ended | None:
        ours = 0 < stream == self._stream
        if self._answers.goes_on and kind != CONTINUATION:
            raise NotUnderstood("headers that do not go on")
        if not self._agreed and kind != SETTINGS:
            raise NotUnderstood("it does not speak HTTP/2")
        if kind == DATA:
            self._received(len(payload))
            return self._ended(self._answers.data(flags, payload)) if ours else None
        if kind in (HEADERS, CONTINUATION):
            return self._ended(self._answers.headers(kind, flags, payload, ours=ours))
        if kind == RST_STREAM:
            return self._ended(reset(int.from_bytes(payload[:4]))) if ours else None
        if len(self._queue) > _MOST_QUEUED:
            raise NotUnderstood("it sends and does not receive")
        return self._heard_control(kind, flags, stream, payload)

    def _ended(self, ended: Ended | None) -> Ended | None:
        if ended is not None:
            self._stream = 0
            self._answers.begin()  # a connection that is idle keeps no answer
            if self._message is not None or self._queue:
                # It was answered before it was all sent: the rest would be of no call.
                self.close()
        return ended

    def _received(self, size: int) -> None:
        self._unacknowledged += size
        if self._unacknowledged > WINDOW // 2:
            self._send(frame(WINDOW_UPDATE, 0, 0, self._unacknowledged.to_bytes(4)))
            self._unacknowledged = 0

    def _heard_control(self, kind: int, flags: int, stream: int, payload: bytes) -> Ended | None:
        if kind == SETTINGS and not flags & ACK:
            self._settle(payload)
        elif kind == PING and not flags & ACK:
            self._send(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            by = int.from_bytes(payload[:4]) & WINDOW
            if not stream:
                self._window += by
            elif stream == self._stream:
                self._stream_window += by
            if self._message is not None:
                self._send_message()
        elif kind == GOAWAY:
            self.usable = False
            if self._stream > int.from_bytes(payload[:4]) & WINDOW:
                return self._broken("the server closes the connection")
        elif kind == PUSH_PROMISE:
            raise NotUnderstood("it pushes what nobody asked for")
        return None

    def _settle(self, payload: bytes) -> None:
        if len(payload) % 6:
            raise NotUnderstood("damaged settings")
        for name, value in struct.iter_unpack(">HI", payload):
            if name == INITIAL_WINDOW:
                self._stream_window += value - self._initial_window
                self._initial_window = value
            elif name == MAX_FRAME:
                self._frame_bytes = max(FIRST_FRAME, value)
        self._agreed = True
        self._send(frame(SETTINGS, ACK, 0, b""))
        self._send_message()
