"""Connections to one server, of which each call under way has one to itself.

A call takes one that is idle. Where there is none, the call goes by gRPC, and another connection is
opened beside it for the next one: so nobody waits for a connection, and where none can be had (TLS,
a proxy that speaks otherwise, a server that is gone) everything goes by gRPC as if these were not.
"""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from client.frames import FIRST_FRAME, call_headers
from client.late_calls import LateCalls
from client.opening import opened
from client.sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Callable

    from client.completions import Ended, Metadata
    from client.http2 import Connection
    from client.sharing import SharedMemory
    from client.unhurried import Body

_LOG = logging.getLogger(__name__)
INFER = "/inference.GRPCInferenceService/ModelInfer"
# A call of nothing, by which a new connection shows that what comes back is understood.
_LIVE = "/inference.GRPCInferenceService/ServerLive"
# No `dns:`, `unix:` or other scheme of gRPC's.
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+:\d+|\[[0-9A-Fa-f:.]+\]:\d+")
# Above it calls share gRPC's connection.
MOST = 64
_IDLE_S = 60.0
# One that ended a call so shortly ago is not looked at before the next: it was, when that ended.
_FRESH_S = 0.01
# How often idle ones are looked at: a server that is to stop waits for its pings to be answered.
_LOOK_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


class Connections:
    """Those to one server. Safe to use from threads.

    Args:
        url: ``host:port``.
        authority: The ``host:port`` that is asked for there; the URL if empty.
        metadata: Sent with every call.
        shared_memory: Whether requests go through it (`client.sharing`).
    """

    def __init__(
        self,
        url: str,
        authority: str = "",
        metadata: Metadata = (),
        shared_memory: SharedMemory = "never",
    ) -> None:
        self._url, self._authority, self._metadata = url, authority or url, metadata
        self._headers = call_headers(self._authority, INFER, metadata)
        self._lock = threading.Lock()
        self._idle: deque[Connection] = deque()
        self._bare: deque[Connection] = deque()  # idle, and to get a region first
        self._all: set[Connection] = set()
        self._late = LateCalls()
        self._wanted = 1  # how many there are to be: as many as calls were under way at once
        self._missed = False
        self._keeper: threading.Thread | None = None
        self._need = threading.Event()
        # More metadata than fits into a frame is gRPC's to send.
        self._off = not _PLAIN.fullmatch(url) or len(self._headers) > FIRST_FRAME // 2
        self._closed = False
        self._sharing = Sharing(shared_memory, url, self._authority, metadata)

    def take(self, under_way: int = 0) -> Connection | None:
        """Return one that is idle and well, to be given back; None if there is none now.

        Args:
            under_way: How many calls there are beside, however they were sent.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                if not self._off:
                    self._want(under_way + 1)
                return None
            if time.monotonic() - connection.idle_since > _FRESH_S:
                connection.advance()  # what came while it was idle, such as that the server went
            if connection.usable:
                return connection
            self._forget(connection)

    def begin(self, connection: Connection, body: bytes | Body, metadata: Metadata = ()) -> None:
        """Send an inference; ``metadata`` goes along with what is sent with every call."""
        headers = self._headers
        if metadata:
            headers = call_headers(self._authority, INFER, self._metadata + metadata)
        connection.begin(headers, body if isinstance(body, bytes) else body(connection.share))

    def lost(self, connection: Connection, ended: Ended) -> bool:
        """Tell whether a call failed as the server had forgotten its region, which goes then."""
        region = connection.region
        if ended.response is not None or region is None or region.name not in ended.details:
            return False
        connection.region = None
        region.close()
        return connection.usable

    def give(self, connection: Connection) -> None:
        """Take one back whose call has ended."""
        if not connection.usable:
            self._forget(connection)
            return
        connection.idle_since = time.monotonic()
        if self._sharing.wants(connection):
            self._bare.append(connection)
            self._need.set()
        else:
            self._idle.append(connection)
        if self._closed:
            self.close()

    def adopt(self, connection: Connection, end: Callable[[Ended], None]) -> None:
        """Wait for the end of a call that nobody waits for any more; ``end`` is told."""
        self._late.adopt(connection, end)

    def close(self) -> None:
        """Close those that are idle, and end the calls on the others."""
        self._off = self._closed = True
        self._sharing.hurry()
        self._late.close()
        self._need.set()
        for each in (self._idle, self._bare):
            while each:
                with contextlib.suppress(IndexError):
                    connection = each.pop()
                    self._sharing.release(connection)
                    self._forget(connection)
        with self._lock:
            for used in self._all:
                used.abort()

    def _forget(self, connection: Connection) -> None:
        with self._lock:
            self._all.discard(connection)
        connection.close()
        self._sharing.release(connection)
        connection.share = None

    def _want(self, count: int) -> None:
        with self._lock:
            self._wanted = max(self._wanted, min(count, MOST))
            # Who asks once and no more needs none.
            if self._missed and len(self._all) < self._wanted:
                self._need.set()
                if self._keeper is None:
                    self._keeper = threading.Thread(
                        target=self._keep, name="rankserve-connections", daemon=True
                    )
                    self._keeper.start()
            self._missed = True

    def _keep(self) -> None:
        """Open what is wanted, and look after what is idle, until they are closed."""
        pause_s = _FIRST_PAUSE_S
        not_before = float("-inf")
        while not self._off:
            self._need.wait(_LOOK_S)
            self._need.clear()
            while len(self._all) < self._wanted and not self._off:
                if time.monotonic() < not_before:
                    break
                if self._open():
                    pause_s = _FIRST_PAUSE_S
                else:
                    not_before = time.monotonic() + pause_s
                    pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            while self._bare:
                with contextlib.suppress(IndexError):  # they were closed meanwhile
                    connection = self._bare.popleft()
                    self._sharing.equip(connection)
                    self.give(connection)
            for _ in range(len(self._idle)):
                self._look_at_one()

    def _open(self) -> bool:
        """Open one; False if nobody answers."""
        try:
            connection = opened(self._url, call_headers(self._authority, _LIVE, self._metadata))
        except OSError:  # gRPC finds that too, and says so
            return False
        if connection is None:
            self._off = True
            _LOG.info("%s is asked by gRPC alone: its HTTP/2 is not understood", self._url)
            return True
        if self._sharing.on:
            connection.share = partial(self._sharing.region, connection)
        with self._lock:
            self._all.add(connection)
        self.give(connection)
        return True

    def _look_at_one(self) -> None:
        """Answer what a server asks of the one that was idle longest, such as that it be closed."""
        with contextlib.suppress(IndexError):  # another thread took it
            connection = self._idle.popleft()
            connection.advance()
            spare = time.monotonic() - connection.idle_since > _IDLE_S and len(self._all) > 1
            if connection.usable and not spare:
                self._idle.append(connection)
            else:
                self._wanted = max(1, self._wanted - spare)
                self._sharing.release(connection)
                self._forget(connection)
        if self._closed:
            self.close()
