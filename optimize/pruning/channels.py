"""Channels: the places of a value's dimension that stand or fall together.

A layer's output number 3, the element 3 of the parameter that it is multiplied with, and column 3
of the next layer's weight are one channel: cut one of them and all must go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Carried:
    """Channels that a value has.

    Attributes:
        axis: The dimension that they are the places of, from the front.
        channels: Of each place.
    """

    axis: int
    channels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NamedSize:
    """A number of channels that a node names in a list of sizes.

    Attributes:
        argument: Which of the node's arguments is the list.
        place: In the list.
        channels: That the number counts.
    """

    argument: int
    place: int
    channels: tuple[int, ...]


class Channels:
    """All channels of a graph: which of them are one, and which must stay.

    Disjoint sets with path halving (Tarjan).
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._fixed: dict[int, str] = {}

    def new(self, count: int) -> tuple[int, ...]:
        """Return so many channels of their own."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return tuple(range(first, first + count))

    def root(self, channel: int) -> int:
        """Return what stands for all that are one with a channel."""
        while self._parents[channel] != channel:
            self._parents[channel] = self._parents[self._parents[channel]]
            channel = self._parents[channel]
        return channel

    def join(self, some: Sequence[int], others: Sequence[int]) -> None:
        """Make channels one, pair by pair."""
        for one, other in zip(some, others, strict=True):
            kept, gone = self.root(one), self.root(other)
            if kept == gone:
                continue
            self._parents[gone] = kept
            reason = self._fixed.pop(gone, "")
            if reason:
                self._fixed.setdefault(kept, reason)

    def fix(self, channels: Sequence[int], reason: str) -> None:
        """Let channels stay; the first reason is kept."""
        for each in channels:
            self._fixed.setdefault(self.root(each), reason)

    def why_fixed(self, channel: int) -> str:
        """Return why a channel stays; empty if it may go."""
        return self._fixed.get(self.root(channel), "")
