"""Which replicas are near: in the caller's own zone, so that calls cross to no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def nearness(
    zone: str, zones: Mapping[str, str] | Callable[[str], str] | None
) -> Callable[[str], bool]:
    """Return what tells of a URL whether it is near: in the zone, or anywhere if there are none.

    Raises:
        InvalidRequest: There is a zone without zones, or the other way round.
    """
    if not zone and zones is None:
        return lambda _: True
    if not zone or zones is None:
        raise InvalidRequest(
            "zone and zones belong together: give your own zone, and the zone of each replica"
        )
    of = zones if callable(zones) else zones.get
    return lambda url: of(url) == zone
