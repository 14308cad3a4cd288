"""Requests out of events: what people did, as sittings with what they had liked before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rankers.requests import Array


@dataclass(frozen=True, slots=True)
class Events:
    """Who did something with which item, and when.

    Attributes:
        user: int64 ``[events]``.
        item: int64 ``[events]``, from 1.
        time_s: float64 ``[events]``.
    """

    user: Array
    item: Array
    time_s: Array

    def order(self) -> Array:
        """Return the order by user, then time, then place in the file, ``[events]``."""
        return np.lexsort((np.arange(len(self.user)), self.time_s, self.user))


@dataclass(frozen=True, slots=True)
class Sittings:
    """R requests in the order of time, with ΣN candidates.

    Attributes:
        user: Who, int64 ``[R]``.
        history: The items they had liked before, the newest last, int64 ``[R, history]``; 0 pads.
        item: int64 ``[ΣN]``.
        label: 1 where they liked it, float32 ``[ΣN]``.
        offsets: int64 ``[R + 1]``.
    """

    user: Array
    history: Array
    item: Array
    label: Array
    offsets: Array


def sittings(events: Events, *, positive: Array, gap_s: float, history: int) -> Sittings:
    """Cut each user's events where they paused, and order the sittings by when they began.

    Args:
        events: In any order.
        positive: Which of them the user liked, bool ``[events]``.
        gap_s: A pause as long as this begins another sitting.
        history: How many liked items of before are kept.
    """
    order = events.order()
    user, item, time_s = events.user[order], events.item[order], events.time_s[order]
    liked = positive[order]
    new_user = np.diff(user, prepend=user[0] - 1) != 0
    begins = new_user | (np.diff(time_s, prepend=time_s[0]) >= gap_s)
    starts = np.flatnonzero(begins)
    stops = np.append(starts[1:], len(user))
    before = liked_before(item, liked, np.flatnonzero(new_user), starts, history)
    when = np.argsort(time_s[starts], kind="stable")
    counts = (stops - starts)[when]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    rows = np.repeat(starts[when] - offsets[:-1], counts) + np.arange(offsets[-1])
    return Sittings(
        user=user[starts][when],
        history=before[when],
        item=item[rows].astype(np.int64),
        label=liked[rows].astype(np.float32),
        offsets=offsets,
    )


def liked_before(item: Array, liked: Array, firsts: Array, starts: Array, history: int) -> Array:
    """Return what each user had liked before each of some events, int64 ``[starts, history]``.

    Args:
        item: By user and time, ``[events]``.
        liked: bool ``[events]``.
        firsts: The first event of each user, ascending.
        starts: The events asked about, ascending.
        history: How many items at most; the newest stay, and stand last before the padding 0.
    """
    places = np.flatnonzero(liked)  # of the liked events
    until = np.searchsorted(places, starts)  # liked events before each start, of anybody
    user_first = firsts[np.searchsorted(firsts, starts, side="right") - 1]
    since = np.maximum(np.searchsorted(places, user_first), until - history)
    columns = since[:, np.newaxis] + np.arange(history)  # [starts, history]
    held = columns < until[:, np.newaxis]
    if not len(places):
        return np.zeros(held.shape, dtype=np.int64)
    values = item[places[np.minimum(columns, len(places) - 1)]]
    found: Array = np.where(held, values, 0).astype(np.int64)
    return found
