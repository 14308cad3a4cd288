"""A run's course: how long requests took over its time, in slices small enough to keep in a file.

A slice holds a coarse histogram, not a median: histograms add up exactly, so that slices and whole
timelines can be joined. It is for looking at. Percentiles come from `bench.latencies`.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.load import LoadResult
    from rankers.requests import Array

SCHEMA = 1
MOST_SLICES = 200
# Fewer requests than this in a slice, on average, would draw noise.
_LEAST_REQUESTS = 10
_LOWEST_US, _PER_DECADE, _BUCKETS = 1.0, 20, 180  # 1 µs to 1,000 s; a bucket is 12 % wide
_NS = 1e9


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Slices of a run, in order. Make one with `record`, join several with `follow` or `overlay`.

    Attributes:
        width_s: Of a slice: 1 ms times a power of two. The last slice of a run may be half as much
            shorter or longer.
        length_ns: Of each slice, int64 ``[slices]``.
        slowest_ns: The longest response time of the requests that were due in it, ``[slices]``.
        behind_ns: How long after it was due the latest of them was sent, ``[slices]``: the
            generator's lag, or that every worker was busy.
        buckets: Requests by response time, int64 ``[slices, 180]``: 20 buckets a decade from 1 µs.
    """

    width_s: float
    length_ns: Array
    slowest_ns: Array
    behind_ns: Array
    buckets: Array

    @property
    def counts(self) -> Array:
        """Answered requests that were due in each slice, int64 ``[slices]``."""
        counts: Array = self.buckets.sum(axis=1)
        return counts

    @property
    def edges_s(self) -> Array:
        """Where slices begin and end, float64 ``[slices + 1]`` seconds of measuring."""
        return np.concatenate([[0.0], np.cumsum(self.length_ns)]) / _NS

    def quantile_us(self, quantile: float) -> Array:
        """Return a quantile of each slice to within 6 %; NaN where nothing was due. Not for print.

        The largest is exact, so the last bucket that is reached gives no more than that.
        """
        counts = self.counts
        reached = np.cumsum(self.buckets, axis=1) >= np.maximum(
            1, np.ceil(quantile * counts)
        ).reshape(-1, 1)
        middle = _LOWEST_US * 10 ** ((np.argmax(reached, axis=1) + 0.5) / _PER_DECADE)
        found: Array = np.where(counts > 0, np.minimum(middle, self.slowest_ns / 1e3), np.nan)
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the timeline as JSON-ready data: its rows packed, a few kB."""
        columns = [self.length_ns, self.slowest_ns, self.behind_ns, *self.buckets.T]
        packed = zlib.compress(np.stack(columns).astype("<i8").tobytes(), 9)
        return {
            "schema": SCHEMA,
            "width_s": self.width_s,
            "slices": len(self.length_ns),
            "columns": base64.b64encode(packed).decode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any] | None) -> Timeline | None:
        """Read what `to_json` wrote; None for a file that has none, or a later version's.

        Raises:
            UserError: It is damaged.
        """
        if data is None or data["schema"] != SCHEMA:
            return None
        raw = zlib.decompress(base64.b64decode(data["columns"], validate=True))
        table = np.frombuffer(raw, dtype="<i8").astype(np.int64)
        if len(table) != data["slices"] * (3 + _BUCKETS):
            raise UserError(f"its timeline does not have the {data['slices']} slices it says")
        table = table.reshape(3 + _BUCKETS, -1)
        return cls(data["width_s"], table[0], table[1], table[2], table[3:].T)


def record(result: LoadResult) -> Timeline | None:
    """Slice a run by when its requests were due; None if none was answered."""
    if not result.ok or not result.duration_s:
        return None
    most = max(1, min(MOST_SLICES, result.ok // _LEAST_REQUESTS))
    width_s = 0.001 * 2 ** max(0, math.ceil(math.log2(result.duration_s / most / 0.001)))
    slices = max(1, round(result.duration_s / width_s))  # a rest below a half goes to the last
    place = np.clip((result.intended_s / width_s).astype(np.int64), 0, slices - 1)
    response_us = np.maximum(result.response_s * 1e6, _LOWEST_US)
    bucket = np.clip(
        (np.log10(response_us / _LOWEST_US) * _PER_DECADE).astype(np.int64), 0, _BUCKETS - 1
    )
    buckets = np.zeros((slices, _BUCKETS), dtype=np.int64)
    np.add.at(buckets, (place, bucket), 1)
    length_s = np.full(slices, width_s)
    length_s[-1] = result.duration_s - (slices - 1) * width_s
    return Timeline(
        width_s=width_s,
        length_ns=_ns(length_s),
        slowest_ns=_largest(place, _ns(result.response_s), slices),
        behind_ns=_largest(place, _ns(result.started_s - result.intended_s), slices),
        buckets=buckets,
    )


def follow(parts: Sequence[Timeline | None]) -> Timeline | None:
    """Join runs that came one after another; None where one of them has no timeline."""
    known = _same_width(parts)
    if known is None:
        return None
    joined = Timeline(
        known[0].width_s,
        *(
            np.concatenate([getattr(each, name) for each in known])
            for name in ("length_ns", "slowest_ns", "behind_ns", "buckets")
        ),
    )
    while len(joined.length_ns) > MOST_SLICES:
        joined = _coarser(joined)
    return joined


def overlay(parts: Sequence[Timeline | None]) -> Timeline | None:
    """Join runs that began at the same moment; None where one of them has no timeline."""
    known = _same_width(parts)
    if known is None:
        return None
    most = max(len(each.length_ns) for each in known)
    padded = [_padded(each, most) for each in known]
    return Timeline(
        width_s=known[0].width_s,
        length_ns=np.max([each.length_ns for each in padded], axis=0),
        slowest_ns=np.max([each.slowest_ns for each in padded], axis=0),
        behind_ns=np.max([each.behind_ns for each in padded], axis=0),
        buckets=np.sum([each.buckets for each in padded], axis=0),
    )


def _same_width(parts: Sequence[Timeline | None]) -> list[Timeline] | None:
    known = [each for each in parts if each is not None]
    if not known or len(known) < len(parts):
        return None
    widest = max(each.width_s for each in known)
    return [_as_wide(each, widest) for each in known]


def _as_wide(timeline: Timeline, width_s: float) -> Timeline:
    while timeline.width_s < width_s:
        timeline = _coarser(timeline)
    return timeline


def _coarser(timeline: Timeline) -> Timeline:
    """Join neighbours two by two."""
    firsts = np.arange(0, len(timeline.length_ns), 2)
    return Timeline(
        width_s=timeline.width_s * 2,
        length_ns=np.add.reduceat(timeline.length_ns, firsts),
        slowest_ns=np.maximum.reduceat(timeline.slowest_ns, firsts),
        behind_ns=np.maximum.reduceat(timeline.behind_ns, firsts),
        buckets=np.add.reduceat(timeline.buckets, firsts, axis=0),
    )


def _padded(timeline: Timeline, slices: int) -> Timeline:
    more = slices - len(timeline.length_ns)
    return Timeline(
        width_s=timeline.width_s,
        length_ns=np.pad(timeline.length_ns, (0, more)),
        slowest_ns=np.pad(timeline.slowest_ns, (0, more)),
        behind_ns=np.pad(timeline.behind_ns, (0, more)),
        buckets=np.pad(timeline.buckets, ((0, more), (0, 0))),
    )


def _largest(place: Array, values: Array, slices: int) -> Array:
    found = np.zeros(slices, dtype=np.int64)
    np.maximum.at(found, place, values)
    return found


def _ns(seconds: Array) -> Array:
    nanoseconds: Array = np.maximum(np.rint(seconds * _NS), 0).astype(np.int64)
    return nanoseconds
