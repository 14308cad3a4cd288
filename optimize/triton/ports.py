"""Ports for a server: free ones, or a line that says who sits on them."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from rankers.errors import UserError


class PortError(UserError):
    """A port is taken; the message says which, and by what."""


def claim_ports(host: str, wanted: dict[str, int]) -> list[int]:
    """Return a port for each purpose, all different; free ones in place of 0.

    Raises:
        PortError: One is occupied; the message says by what.
    """
    with ExitStack() as stack:
        ports = []
        for purpose, port in wanted.items():
            probe = stack.enter_context(socket.socket())
            # Connections of an earlier server that linger in TIME_WAIT do not occupy a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen()
            except OSError as error:
                if port in ports:
                    by = "for another purpose of this server"
                else:
                    by = _occupant(port) or f"({error.strerror})"
                raise PortError(
                    f"the {purpose} port {port} on {host} is taken {by}: choose another port, "
                    "or 0 for a free one"
                ) from error
            ports.append(probe.getsockname()[1])
        return ports


def _occupant(port: int) -> str:
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and each.laddr[1:] == (port,) and each.pid:
                return f"by {psutil.Process(each.pid).name()} (process {each.pid})"
    except psutil.Error:
        pass  # Other users' processes are not ours to see.
    return ""
