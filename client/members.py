"""The replicas that a client knows, as they come and go. Its caller holds the lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from client.channel import open_channel
from client.connections import Connections
from client.policies.balancing import Replica
from client.unhurried import UnhurriedCalls

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import grpc

    from client.completions import Metadata
    from client.discovery import Target
    from client.policies import Policies
    from client.sharing import SharedMemory


class Endpoint:
    """One server: a channel that lives as long as it is there, and the client is."""

    def __init__(
        self,
        target: Target,
        credentials: grpc.ChannelCredentials | None,
        metadata: Metadata,
        shared_memory: SharedMemory = "auto",
    ) -> None:
        self.url = target.url
        channel, self.stub = open_channel(target.url, credentials, authority=target.authority)
        # TLS is gRPC's.
        connections = (
            None
            if credentials
            else Connections(target.url, target.authority, metadata, shared_memory)
        )
        self.calls = UnhurriedCalls(channel, metadata=metadata, connections=connections)
        self.metadata = metadata


class Changes(NamedTuple):
    """What became of the replicas.

    Attributes:
        came: How many are new.
        went: How many are not asked any more.
        drained: Those whose last call has ended. They are to be closed without the lock, which
            their last call may still want.
    """

    came: int
    went: int
    drained: list[Endpoint]


class Members:
    """Servers in places, which are numbers: calls under way know theirs.

    One that is gone is asked nothing any more. Its calls come to their ends, and only then is its
    channel closed and its place free for another.

    Args:
        connect: Makes an endpoint.
        policies: Of every replica.
        near: Tells of a URL whether it is in the client's own zone.
    """

    def __init__(
        self, connect: Callable[[Target], Endpoint], policies: Policies, near: Callable[[str], bool]
    ) -> None:
        self._connect, self._policies, self._near = connect, policies, near
        self.endpoints: list[Endpoint] = []
        self.replicas: list[Replica] = []
        self._free: list[int] = []

    @property
    def present(self) -> list[int]:
        """The places of those that are there."""
        return [place for place, each in enumerate(self.replicas) if not each.gone]

    def renew(self, targets: Sequence[Target], now: float | None = None) -> Changes:
        """Take in those that are new, and let go those that are not there any more.

        Args:
            targets: All that there are now.
            now: The time; new ones ramp up from here. None for the first ones.
        """
        wanted = {each.url: each for each in targets}
        held = {self.endpoints[place].url: place for place in self._held()}
        went = [place for url, place in held.items() if url not in wanted]
        went = [place for place in went if not self.replicas[place].gone]
        for place in went:
            self.replicas[place].gone = True
        came = 0
        for url, target in wanted.items():
            place = held.get(url, -1)
            if place < 0:
                place = self._take_in(target)
            elif not self.replicas[place].gone:
                continue
            came += 1
            self.replicas[place].gone = False
            if now is not None:
                self.replicas[place].health.ramp(now)
        return Changes(came, len(went), self._drained())

    @property
    def draining(self) -> bool:
        """Whether one that is gone still has calls under way."""
        return any(self.replicas[place].gone for place in self._held())

    def _held(self) -> list[int]:
        return [place for place in range(len(self.endpoints)) if place not in self._free]

    def _take_in(self, target: Target) -> int:
        endpoint, replica = self._connect(target), Replica(self._policies)
        replica.near = self._near(target.url)
        if self._free:
            place = self._free.pop()
            self.endpoints[place], self.replicas[place] = endpoint, replica
        else:
            place = len(self.endpoints)
            self.endpoints.append(endpoint)
            self.replicas.append(replica)
        return place

    def _drained(self) -> list[Endpoint]:
        drained = []
        for place in self._held():
            replica, calls = self.replicas[place], self.endpoints[place].calls
            # Picked and not sent yet counts for the replica, sent and not answered for both.
            if replica.gone and not replica.under_way and not calls.under_way:
                drained.append(self.endpoints[place])
                self._free.append(place)
        return drained
