"""How many candidates a request has, how long a history is, which IDs are popular."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rankers.errors import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rankers.requests import Array


class Counts(Protocol):
    """A distribution of whole numbers from 1."""

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """Draw int64 ``[count]``."""
        ...


@dataclass(frozen=True, slots=True)
class Fixed:
    """Always the same."""

    count: int

    def __post_init__(self) -> None:
        _check_limits(self.count, self.count)

    def draw(self, count: int, random: np.random.Generator) -> Array:  # noqa: ARG002 - as the others
        """Repeat it."""
        return np.full(count, self.count, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every whole number from ``min`` to ``max`` as often."""

    min: int
    max: int

    def __post_init__(self) -> None:
        _check_limits(self.min, self.max)

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """Draw with both ends included."""
        return random.integers(self.min, self.max + 1, count)


@dataclass(frozen=True, slots=True)
class LogNormal:
    """Numbers whose logarithm is normal, rounded; those outside the limits are drawn again.

    Attributes:
        median: Before what is outside the limits is left out.
        sigma: Of the logarithm; 0.5 has its 95th percentile at 2.3 times the median.
        min: The smallest.
        max: The largest.
    """

    median: float
    sigma: float
    min: int = 1
    max: int = 100_000

    def __post_init__(self) -> None:
        _check_limits(self.min, self.max)
        if not (self.sigma >= 0 and self.min <= self.median <= self.max):
            raise UserError(
                f"a lognormal of median {self.median:g} and sigma {self.sigma:g}: the median lies "
                f"from min, {self.min}, to max, {self.max}, and sigma is 0 or more"
            )

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """Draw by rejection: at least half of any draw would be kept on one side of the median."""
        drawn = np.empty(0, dtype=np.int64)
        while len(drawn) < count:
            more = np.exp(random.normal(math.log(self.median), self.sigma, 4 * count))
            # A limit beyond int64 has nothing to cut; clip, so that the cast is defined.
            rounded = np.rint(np.clip(more, 0, 2**62)).astype(np.int64)
            kept = rounded[(rounded >= self.min) & (rounded <= self.max)]
            drawn = np.concatenate([drawn, kept])
            if not len(kept):
                raise UserError(f"next to nothing of {self} lies within its limits: widen them")
        return drawn[:count]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Some numbers, each with how often it occurs.

    Attributes:
        counts: The numbers.
        weights: How often each, in any unit.
    """

    counts: tuple[int, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        # TOML's arrays are lists; a frozen value holds tuples.
        object.__setattr__(self, "counts", tuple(self.counts))
        object.__setattr__(self, "weights", tuple(self.weights))
        if not self.counts or len(self.counts) != len(self.weights):
            raise UserError(
                f"a histogram of {len(self.counts)} counts and {len(self.weights)} weights: "
                "there is a weight for each count, and at least one"
            )
        _check_limits(min(self.counts), max(self.counts))
        if min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf:
            raise UserError(f"a histogram's weights {self.weights} are 0 or more, and some above 0")

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """Draw each as often as its weight says."""
        chances = np.array(self.weights) / sum(self.weights)
        drawn: Array = random.choice(np.array(self.counts, dtype=np.int64), count, p=chances)
        return drawn


_KINDS: Mapping[str, type[Any]] = {
    "fixed": Fixed,
    "uniform": Uniform,
    "lognormal": LogNormal,
    "histogram": Histogram,
}


def read_counts(data: Mapping[str, Any]) -> Counts:
    """Make a distribution of a TOML table: its ``kind``, and the attributes of that kind.

    Raises:
        UserError: The kind or a setting is unknown, missing or of the wrong type.
    """
    settings = dict(data)
    kind = settings.pop("kind", None)
    if kind not in _KINDS:
        raise UserError(f"unknown kind {kind!r} of distribution; {nearest(str(kind), _KINDS)}")
    chosen = _KINDS[kind]
    for name in settings:
        if name not in chosen.__slots__:
            raise UserError(f"a {kind} has no setting {name!r}; {nearest(name, chosen.__slots__)}")
    try:
        made: Counts = chosen(**settings)
    except TypeError as error:
        raise UserError(
            f"a {kind} needs numbers for {', '.join(chosen.__slots__)}; got {settings}"
        ) from error
    return made


class Zipf:
    """Entities by their popularity: rank r is drawn in proportion to ``(r + 1) ** -exponent``.

    Args:
        size: How many entities there are: the working set.
        exponent: 0 makes all as popular; the logs of shops and feeds have 0.6 to 1.2.
    """

    def __init__(self, size: int, exponent: float) -> None:
        self.size = size
        chances = np.arange(1, size + 1, dtype=np.float64) ** -exponent
        self._chances = chances / chances.sum()
        self._cumulative = np.cumsum(self._chances)

    def draw(self, count: int, random: np.random.Generator) -> Array:
        """Draw ranks, int64 ``[count]``; the same may come again."""
        places = np.searchsorted(self._cumulative, random.random(count), side="right")
        return np.minimum(places, self.size - 1)  # the last sum may round to just below 1

    def draw_distinct(self, count: int, random: np.random.Generator) -> Array:
        """Draw different ranks, int64 ``[count]``, as drawing one after another without return."""
        if count * 4 > self.size:
            return random.choice(self.size, count, replace=False, p=self._chances)
        kept = np.empty(0, dtype=np.int64)
        for _ in range(20):
            # Those seen before are skipped: that is drawing without return.
            drawn = np.concatenate([kept, self.draw(2 * count, random)])
            _, first = np.unique(drawn, return_index=True)
            kept = drawn[np.sort(first)]
            if len(kept) >= count:
                return kept[:count]
        return random.choice(self.size, count, replace=False, p=self._chances)


def _check_limits(least: Any, most: Any) -> None:
    if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most <= 100_000):
        raise UserError(
            f"counts from {least} to {most}: they are whole numbers from 1 to 100,000, the "
            "smaller first"
        )
