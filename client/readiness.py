"""Waiting for sockets, to the microsecond where that can be."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from client.http2 import Connection


def ready(connections: list[Connection], seconds: float) -> list[Connection]:
    """Wait until one or more may `advance`, and return those; none if it took too long."""
    writing = [each for each in connections if each.unsent]
    try:
        readable, writable, _ = select.select(connections, writing, (), seconds)
    except ValueError:  # more files than select takes
        return _polled(connections, seconds)
    return list({*readable, *writable}) if writable else readable


def _polled(connections: list[Connection], seconds: float) -> list[Connection]:
    poll, of = select.poll(), {}
    for each in connections:
        of[each.fileno()] = each
        poll.register(each, select.POLLIN | (select.POLLOUT if each.unsent else 0))
    return [of[fileno] for fileno, _ in poll.poll(seconds * 1e3)]
