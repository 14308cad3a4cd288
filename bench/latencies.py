"""Latencies of a run: a mergeable histogram, exact samples where there is room, and percentiles.

Percentiles are never averaged: to join runs their histograms are added. A percentile comes with the
interval that order statistics give it, and is not given at all below its sample floor: from 100
requests nobody knows a p99.
"""

from __future__ import annotations

import base64
import functools
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hdrh.histogram import HdrHistogram

    from rankers.requests import Array

QUANTILES = (0.5, 0.9, 0.99, 0.999)
CONFIDENCE = 0.95
# Samples are kept beside the histogram up to here: some 5 bytes each in a results file. Their order
# is what dependence is estimated from: beyond, latencies are taken as independent.
EXACT_LIMIT = 200_000

_LOWEST_US, _HIGHEST_US, _DIGITS = 1, 600_000_000, 3  # 1 µs to 10 minutes, within 0.1 %


@dataclass(frozen=True, slots=True)
class Percentile:
    """A percentile and its 95 % interval, in microseconds."""

    quantile: float
    value_us: float
    low_us: float
    high_us: float

    @property
    def label(self) -> str:
        """Such as ``p99.9``."""
        return percentile_label(self.quantile)

    def to_json(self) -> dict[str, float]:
        """Return the percentile as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Many latencies. Make one with `record`, join several with `merge`.

    Attributes:
        histogram: Of whole microseconds, 1 µs to 10 minutes, 3 significant digits. Not changed
            after it was made.
        samples_ns: The exact latencies in the order of their requests, int64 ``[count]``
            nanoseconds; None beyond `EXACT_LIMIT`.
    """

    histogram: HdrHistogram
    samples_ns: Array | None

    @property
    def count(self) -> int:
        """How many latencies there are."""
        return int(self.histogram.total_count)

    def percentile(
        self, quantile: float, worth: float | None = None, confidence: float = CONFIDENCE
    ) -> Percentile | None:
        """Return a percentile with its 95 % interval, or None below its sample floor.

        Args:
            quantile: In (0, 1), such as 0.99.
            worth: How many independent latencies these are worth (`bench.effective`), at most as
                many as there are. By default they are taken as independent, which those of one
                queue are not.
            confidence: Of the interval, if not 95 %.
        """
        count = self.count
        independent = count if worth is None else min(count, math.floor(worth))
        ranks = interval_ranks(independent, quantile, confidence)
        if ranks is None:
            return None
        middle = max(1, math.ceil(round(quantile * count, 9)))
        lowest = max(1, ranks[0] * count // independent)
        highest = min(count, -(-ranks[1] * count // independent))
        value, low, high = self._at_ranks((middle, lowest, highest))
        return Percentile(quantile, value, low, high)

    def percentiles(self) -> tuple[Percentile, ...]:
        """Return those of `QUANTILES` that have enough samples."""
        found = (self.percentile(each) for each in QUANTILES)
        return tuple(each for each in found if each is not None)

    def point_us(self, quantile: float) -> float:
        """Return the nearest-rank percentile without asking whether the samples suffice.

        For checks and for the spread between rounds, not for print.

        Raises:
            ValueError: There are no latencies.
        """
        if not self.count:
            raise ValueError("no latencies were recorded")
        (value,) = self._at_ranks((max(1, math.ceil(round(quantile * self.count, 9))),))
        return value

    def distribution(self) -> tuple[Array, Array]:
        """Return distinct latencies, ascending, in microseconds, and how often each occurred."""
        if self.samples_ns is not None:
            values, counts = np.unique(self.samples_ns, return_counts=True)
            return values / 1e3, counts
        pairs = [
            (each.value_iterated_to, each.count_at_value_iterated_to)
            for each in self.histogram.get_recorded_iterator()
        ]
        table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
        return table[:, 0].astype(np.float64), table[:, 1]

    def to_json(self) -> dict[str, Any]:
        """Return histogram, exact samples if kept, and percentiles as JSON-ready data."""
        return {
            "count": self.count,
            "percentiles": [each.to_json() for each in self.percentiles()],
            # HdrHistogram's own compressed form (V2), which its other languages read too.
            "histogram": self.histogram.encode().decode(),
            "samples_ns": None if self.samples_ns is None else _pack(self.samples_ns),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Latencies:
        """Read what `to_json` wrote. The percentiles are computed anew.

        Raises:
            UserError: The histogram cannot be read, or it and the count disagree.
        """
        histogram = _decode(data["histogram"])
        samples = None if data["samples_ns"] is None else _unpack(data["samples_ns"])
        latencies = cls(histogram, samples)
        counts = {latencies.count, data["count"], len(samples) if samples is not None else None}
        if len(counts - {None}) != 1:
            raise UserError(f"its histogram, samples and count disagree: {sorted(counts - {None})}")
        return latencies

    def _at_ranks(self, ranks: Sequence[int]) -> list[float]:
        """Return the order statistics at 1-based ranks, in microseconds."""
        values, counts = self.distribution()
        cumulative = np.cumsum(counts)
        return [float(values[np.searchsorted(cumulative, rank)]) for rank in ranks]


def record(seconds: Array) -> Latencies:
    """Make latencies from a run's: float64 ``[count]`` seconds, in the order of the requests."""
    nanoseconds = np.maximum(np.rint(np.asarray(seconds, dtype=np.float64) * 1e9), 0)
    histogram = _empty_histogram()
    microseconds = np.clip(np.rint(nanoseconds / 1e3), _LOWEST_US, _HIGHEST_US).astype(np.int64)
    for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
        histogram.record_value(int(value), int(count))
    exact = nanoseconds.astype(np.int64) if len(nanoseconds) <= EXACT_LIMIT else None
    return Latencies(histogram, exact)


def merge(parts: Sequence[Latencies]) -> Latencies:
    """Join the latencies of several runs: the same as if all had been recorded in one."""
    histogram = _empty_histogram()
    samples: list[Array] = []
    for part in parts:
        histogram.add(part.histogram)
        if part.samples_ns is not None:
            samples.append(part.samples_ns)
    exact = len(samples) == len(parts) and sum(map(len, samples)) <= EXACT_LIMIT
    joined = np.concatenate([np.empty(0, np.int64), *samples]) if exact else None
    return Latencies(histogram, joined)


@functools.lru_cache(maxsize=1024)
def interval_ranks(
    count: int, quantile: float, confidence: float = CONFIDENCE
) -> tuple[int, int] | None:
    """Return the ranks of the order statistics that enclose a quantile.

    How many of ``count`` independent samples lie below the quantile is binomial, whatever their
    distribution, so the l-th and u-th smallest enclose it with probability P(l ≤ B < u).

    Returns:
        1-based ranks (l, u), each tail holding at most half of 1 - confidence; None where there are
        too few samples for one of them.
    """
    if not count:
        return None
    from scipy.stats import binom

    tail = (1 - confidence) / 2
    low = int(binom.ppf(tail, count, quantile))
    high = int(binom.ppf(1 - tail, count, quantile)) + 1
    return (low, high) if low >= 1 and high <= count else None


@functools.cache
def sample_floor(quantile: float, confidence: float = CONFIDENCE) -> int:
    """Return the least number of samples that gives the quantile an interval: 368 for p99."""
    tail = (1 - confidence) / 2
    # The largest of n samples lies below the quantile with probability quantile**n.
    extreme = max(quantile, 1 - quantile)
    floor = max(1, math.floor(math.log(tail) / math.log(extreme)))
    while interval_ranks(floor, quantile, confidence) is None:
        floor += 1
    return floor


def percentile_label(quantile: float) -> str:
    """Return such as ``p99.9``."""
    return f"p{quantile * 100:.6g}"


def _empty_histogram() -> HdrHistogram:
    from hdrh.histogram import HdrHistogram

    return HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)


def _decode(encoded: str) -> HdrHistogram:
    from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException
    from hdrh.histogram import HdrHistogram

    try:
        return HdrHistogram.decode(encoded)
    except (HdrCookieException, HdrHistogramSettingsException, HdrLengthException) as error:
        raise UserError(f"its histogram cannot be read: {error}") from error


def _pack(samples_ns: Array) -> str:
    return base64.b64encode(zlib.compress(samples_ns.astype("<i8").tobytes(), 9)).decode()


def _unpack(packed: str) -> Array:
    raw = zlib.decompress(base64.b64decode(packed, validate=True))
    return np.frombuffer(raw, dtype="<i8").astype(np.int64)
