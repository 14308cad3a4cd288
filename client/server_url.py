"""What is in a server's URL."""

from __future__ import annotations


def host_and_port(url: str) -> tuple[str, int | None]:
    """Return the host and the port of ``host:port``, ``[IPv6]:port`` or ``scheme:///host:port``.

    The port is None if there is none.
    """
    authority = url.rpartition("/")[2]
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.startswith("[")):
        return authority.strip("[]"), None
    return host.strip("[]"), int(port)
