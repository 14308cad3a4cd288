"""What a socket did not take yet."""

from __future__ import annotations

import socket

_AT_ONCE = 64


class Outbox(list[bytes | memoryview]):
    """Parts to be sent, in order, by a socket that is not waited for."""

    def __init__(self, to: socket.socket) -> None:
        super().__init__()
        self._socket = to

    def flush(self) -> None:
        """Send as much as the socket takes.

        Raises:
            OSError: The connection is broken.
        """
        while self:
            try:
                sent = self._socket.sendmsg(self[:_AT_ONCE], (), socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            done = 0
            for part in self:
                if sent < len(part):
                    break
                sent -= len(part)
                done += 1
            del self[:done]
            if sent:
                self[0] = memoryview(self[0])[sent:]
