"""Which servers there are: those that were named, and those that a DNS name stands for now.

gRPC resolves ``dns:///host:port`` by itself, and then asks the first address alone. Here every
address is a replica, with its own connection, health and limit.
"""

from __future__ import annotations

import socket
import threading
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.errors import InvalidRequest, ServerUnreachable
from client.server_url import host_and_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from client.fleet import Fleet

Resolver = Callable[[str, int], Iterable[str]]
"""Returns the addresses of a host, such as ``10.0.0.7`` or ``fd00::7``, given host and port."""

_SCHEME = "dns:///"
# Between two looks, whatever is unreachable.
_LEAST_S = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server to connect to.

    Attributes:
        url: ``host:port``.
        authority: The name it was found by, which its certificate is for; empty if it is the URL's.
    """

    url: str
    authority: str = ""


def addresses(host: str, port: int) -> list[str]:
    """Return every address of a host, by the system's resolver.

    Raises:
        OSError: There is no such host, or nobody to ask.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Names:
    """What a client was given as URLs.

    Args:
        urls: ``host:port``, or ``dns:///host:port`` for all addresses of a host.
        resolver: Finds them.

    Raises:
        InvalidRequest: A name has no port.
    """

    def __init__(self, urls: Sequence[str], resolver: Resolver = addresses) -> None:
        self._urls, self._resolver = urls, resolver
        for each in urls:
            if each.startswith(_SCHEME) and host_and_port(each)[1] is None:
                raise InvalidRequest(f"{each!r} has no port; give {_SCHEME}host:port")

    @property
    def change(self) -> bool:
        """Whether what they stand for may change."""
        return any(each.startswith(_SCHEME) for each in self._urls)

    def targets(self) -> list[Target]:
        """Return what they stand for now.

        Raises:
            ServerUnreachable: A name cannot be resolved, or stands for nothing.
        """
        found: dict[str, Target] = {}
        for url in self._urls:
            of = self._resolved(url) if url.startswith(_SCHEME) else [Target(url)]
            found |= {each.url: each for each in of}
        return list(found.values())

    def _resolved(self, url: str) -> list[Target]:
        host, port = host_and_port(url)
        if port is None:
            raise InvalidRequest(f"{url!r} has no port; give {_SCHEME}host:port")
        try:
            hosts = list(self._resolver(host, port))
        except OSError as error:
            raise ServerUnreachable(
                f"{url!r} cannot be resolved: {error.strerror or error}: check the name"
            ) from error
        if not hosts:
            raise ServerUnreachable(f"{url!r} stands for no address: check the name")
        authority = url.removeprefix(_SCHEME)
        return [
            Target(f"[{each}]:{port}" if ":" in each else f"{each}:{port}", authority)
            for each in hosts
        ]


class Rediscovery:
    """Looks again from time to time, in a thread that ends with its fleet.

    Args:
        fleet: Is told what there is now.
        every_s: How long what was found is believed.
    """

    def __init__(self, fleet: Fleet, every_s: float) -> None:
        self._soon, self._stop = threading.Event(), threading.Event()
        self._end = weakref.finalize(fleet, _stop, self._soon, self._stop)
        threading.Thread(
            target=_look,
            args=(weakref.ref(fleet), every_s, self._soon, self._stop),
            name="rankserve-discovery",
            daemon=True,
        ).start()

    def soon(self) -> None:
        """Look at once, as a replica cannot be reached."""
        self._soon.set()

    def stop(self) -> None:
        """Look no more."""
        self._end()


def _stop(soon: threading.Event, stop: threading.Event) -> None:
    stop.set()
    soon.set()


def _look(
    fleet: weakref.ref[Fleet], every_s: float, soon: threading.Event, stop: threading.Event
) -> None:
    while not stop.wait(min(_LEAST_S, every_s)):
        soon.wait(every_s)
        soon.clear()
        known = fleet()
        if known is None or stop.is_set():
            return
        known.rediscover()
        del known
