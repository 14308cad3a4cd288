"""Shared memory for the connections to a server on this host: registered, verified, given back.

A region belongs to a connection, and a connection to one call at a time: so a region is written
anew only when the server has answered the call before, however late, and goes when its connection
does. Everything here is done beside the calls; what cannot be shared goes in the message.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from client.frames import call_headers
from client.opening import OPENING_S, call
from client.shared_regions import FOLDER, Region, abandoned, sweep

if TYPE_CHECKING:
    from client.completions import Metadata
    from client.http2 import Connection

SharedMemory = Literal["auto", "never", "always"]
_LOG = logging.getLogger(__name__)
_SERVICE = "/inference.GRPCInferenceService/SystemSharedMemory"
# Where `bench.validation.transports` sees the copies saved outweigh what the server looks up.
THRESHOLD_BYTES = 1 << 16
_MOMENT_S = 0.1
_LEAST_BYTES = 1 << 17
# Of one region. What is larger goes in the message.
_MOST_BYTES = 1 << 26
_LOCK = threading.Lock()
Share = Callable[[int], Region | None]
"""Returns where a request of so many bytes is to be written, if not into the message."""


class Sharing:
    """Which requests to one server go through shared memory.

    Args:
        wish: ``auto``, ``never`` or ``always``: at any size.
        url: Of the server, for the log.
        authority: As calls have it.
        metadata: Sent with every call.
    """

    def __init__(
        self,
        wish: SharedMemory,
        url: str,
        authority: str,
        metadata: Metadata,
    ) -> None:
        self.threshold = 0 if wish == "always" else THRESHOLD_BYTES
        self.on = wish != "never" and FOLDER.is_dir()
        self._url, self._authority, self._metadata = url, authority, metadata
        self._wanted = 0
        self._swept = False
        self._patience_s = OPENING_S

    def region(self, connection: Connection, size: int) -> Region | None:
        """Return the connection's region if one is to be written to, and is large enough."""
        if not self.on or size < self.threshold or size > _MOST_BYTES or not connection.local:
            return None
        region = connection.region
        if region is not None and region.size >= size:
            return region
        self._wanted = max(self._wanted, size)
        return None

    def wants(self, connection: Connection) -> bool:
        """Tell whether the connection needs another region than it has."""
        region = connection.region
        lacks = region is None or region.size < self._wanted
        return bool(self.on and self._wanted and connection.local and lacks)

    def equip(self, connection: Connection) -> None:
        """Make and register a region for a connection that carries no call."""
        size = max(_LEAST_BYTES, 1 << (self._wanted - 1).bit_length())
        region = None
        try:
            if not self._swept:
                self._swept = True
                self._sweep(connection)
            self.release(connection)
            region = Region(size)
            self._register(connection, region)
        except (OSError, DecodeError) as error:
            if region is not None:
                region.close()
            if connection.usable:  # else the server went, and another one may do better
                self.give_up(str(error))
            return
        connection.region = region

    def release(self, connection: Connection) -> None:
        """Give back the region of a connection that carries no call."""
        region, connection.region = connection.region, None
        if region is not None:
            region.close()
            if connection.usable:
                self._unregister(connection, region.name)

    def hurry(self) -> None:
        """Wait no longer than a moment for a server from here, as the client is to close."""
        self.on, self._patience_s = False, _MOMENT_S

    def give_up(self, why: str) -> None:
        """Send everything in messages from here."""
        self.on = False
        _LOG.warning("%s gets no requests through shared memory: %s", self._url, why)

    def _register(self, connection: Connection, region: Region) -> None:
        """Have the server map a region. It can only where it sees this host's own memory.

        Raises:
            OSError: It cannot.
        """
        request = service_pb2.SystemSharedMemoryRegisterRequest(
            name=region.name, key=f"/{region.name}", byte_size=region.size
        )
        self._ask(connection, "Register", request.SerializeToString())
        said = self._ask(
            connection,
            "Status",
            service_pb2.SystemSharedMemoryStatusRequest(name=region.name).SerializeToString(),
        )
        mapped = service_pb2.SystemSharedMemoryStatusResponse.FromString(said).regions
        if mapped[region.name].byte_size != region.size:
            raise OSError("the server has mapped another size")

    def _sweep(self, connection: Connection) -> None:
        """Remove what clients left that were killed, here and in the server."""
        with _LOCK:
            for name in sweep():
                _LOG.info("removed %s, which a process that is gone had left", name)
        said = self._ask(connection, "Status", b"")
        known = service_pb2.SystemSharedMemoryStatusResponse.FromString(said).regions
        for name in abandoned(list(known)):
            self._unregister(connection, name)

    def _unregister(self, connection: Connection, name: str) -> None:
        request = service_pb2.SystemSharedMemoryUnregisterRequest(name=name)
        with contextlib.suppress(OSError):  # the server is gone, and its mapping with it
            self._ask(connection, "Unregister", request.SerializeToString())

    def _ask(self, connection: Connection, what: str, body: bytes) -> bytes:
        headers = call_headers(self._authority, f"{_SERVICE}{what}", self._metadata)
        ended = call(connection, headers, body, self._patience_s)
        if ended is None:
            self._patience_s = _MOMENT_S  # the next ones need not wait for so long
            connection.close()
            raise OSError(f"no answer to {what}")
        if ended.response is None:
            raise OSError(f"{what}: {ended.details}"[:300])
        return ended.response
