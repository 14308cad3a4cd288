"""Is one target faster than another? Paired rounds, and intervals that drift cannot fool.

Targets were measured in turn, in rounds, in an order drawn anew for each round. `bench.exchange`
tells by how much one lies above the other at a percentile. Before, each round is divided by its
level, the geometric mean of its two medians, which the exchange does not change: it makes rounds
alike and the interval short. Ratios are shifts of the logarithms, differences those of the times
themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.exchange import Shift, least_rounds
from bench.latencies import sample_floor
from bench.measurement import Measurement
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rankers.requests import Array

Answer = Literal["faster", "slower", "cannot tell"]

COMPARED_QUANTILES = (0.5, 0.99)
# Of all intervals of a comparison together: a check in CI that cries wolf one time in twenty is
# soon turned off.
CONFIDENCE = 0.99
# Smaller differences are not worth more rounds.
WORTH_FINDING = 0.05


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a target's percentile compares with the baseline's.

    Attributes:
        target: Its name.
        baseline: The name of what it is compared with.
        quantile: Such as 0.99.
        value: The target's percentile ÷ the baseline's, the rounds' drift taken out: below 1 is
            faster.
        low: Lower end of the ratio's interval; None where there are too few rounds for one.
        high: Upper end, or None.
        difference_us: The target's percentile less the baseline's, at the level of all rounds.
        difference_low_us: Lower end of its interval, or None.
        difference_high_us: Upper end, or None.
        confidence: That all intervals of the comparison hold together.
        rounds: That were compared.
        rounds_needed: With which a difference of 5 % would be found nine times in ten; None where
            these rounds are enough for that.
    """

    target: str
    baseline: str
    quantile: float
    value: float
    low: float | None
    high: float | None
    difference_us: float
    difference_low_us: float | None
    difference_high_us: float | None
    confidence: float
    rounds: int
    rounds_needed: int | None

    @property
    def verdict(self) -> Answer:
        """Whether the target is faster or slower than the baseline at this percentile."""
        if self.low is not None and self.low > 1:
            return "slower"
        if self.high is not None and self.high < 1:
            return "faster"
        return "cannot tell"

    def to_json(self) -> dict[str, Any]:
        """Return the ratio and its verdict as JSON-ready data."""
        return {name: getattr(self, name) for name in self.__slots__} | {"verdict": self.verdict}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ratio:
        """Read what `to_json` wrote; the verdict follows from the interval."""
        return cls(**{name: data[name] for name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Comparison:
    """Targets measured in turn: one measurement each, and how each compares with the baseline."""

    measurements: tuple[Measurement, ...]
    ratios: tuple[Ratio, ...]

    def verdict(self, target: str) -> Answer | Literal["mixed"]:
        """Return a target's verdict over its percentiles: mixed if they disagree."""
        found = {each.verdict for each in self.ratios if each.target == target} - {"cannot tell"}
        if len(found) > 1:
            return "mixed"
        return next(iter(found), "cannot tell")

    @property
    def slower(self) -> tuple[str, ...]:
        """The targets that are slower than the baseline at some percentile."""
        found = (each.target for each in self.ratios if each.verdict == "slower")
        return tuple(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        """Return measurements, ratios and verdicts as JSON-ready data."""
        compared = dict.fromkeys(each.target for each in self.ratios)
        return {
            "measurements": [each.to_json() for each in self.measurements],
            "ratios": [each.to_json() for each in self.ratios],
            "verdicts": {target: self.verdict(target) for target in compared},
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Comparison:
        """Read what `to_json` wrote; the verdicts follow from the intervals."""
        return cls(
            measurements=tuple(Measurement.from_json(each) for each in data["measurements"]),
            ratios=tuple(Ratio.from_json(each) for each in data["ratios"]),
        )


def compare_rounds(
    rounds: Sequence[Sequence[Array]],
    names: Sequence[str],
    *,
    baseline: int = 0,
    confidence: float = CONFIDENCE,
    quantiles: Sequence[float] = COMPARED_QUANTILES,
) -> tuple[Ratio, ...]:
    """Compare the percentiles of targets that were measured in turn.

    Args:
        rounds: For each target, for each round, its latencies ``[count]`` in seconds. All targets
            have the same rounds, and their order within a round was drawn.
        names: The targets'.
        baseline: Place of the one that the others are compared with.
        confidence: Of all intervals together, those of other `COMPARED_QUANTILES` too.
        quantiles: Which of `COMPARED_QUANTILES` to compare.

    Returns:
        A ratio for each other target and each of the quantiles. One is left out where a target has
        too few latencies for the percentile.
    """
    others = [place for place in range(len(rounds)) if place != baseline]
    # Bonferroni: all intervals hold together, so that more targets do not make more false alarms.
    doubt = (1 - confidence) / max(1, len(others) * len(COMPARED_QUANTILES))
    found: list[Ratio] = []
    for place in others:
        pairs = [
            (ours, theirs)
            for ours, theirs in zip(rounds[place], rounds[baseline], strict=True)
            if len(ours) and len(theirs)
        ]
        counts = [sum(len(pair[side]) for pair in pairs) for side in (0, 1)]
        said = (names[place], names[baseline], confidence)
        found += [
            _ratio(pairs, quantile, doubt, said)
            for quantile in quantiles
            if min(counts) >= sample_floor(quantile)
        ]
    return tuple(found)


def baseline_place(names: Sequence[str], wanted: str | None) -> int:
    """Return the place of the baseline among the targets: the first by default.

    Raises:
        UserError: No target has that name.
    """
    if wanted is None:
        return 0
    if wanted not in names:
        raise UserError(f"the baseline {wanted!r} is none of the targets {list(names)}")
    return list(names).index(wanted)


def _ratio(
    pairs: Sequence[tuple[Array, Array]],
    quantile: float,
    doubt: float,
    said: tuple[str, str, float],
) -> Ratio:
    target, baseline, confidence = said
    levels = np.array([math.sqrt(float(np.median(a)) * float(np.median(b))) for a, b in pairs])
    levels = np.maximum(levels, 1e-9)  # a clock that did not move
    typical = math.exp(float(np.log(levels).mean()))
    ours, theirs = (
        [pair[side] / level * typical for pair, level in zip(pairs, levels, strict=True)]
        for side in (0, 1)
    )
    logs = Shift(
        [np.log(np.maximum(each, 1e-9)) for each in ours],
        [np.log(np.maximum(each, 1e-9)) for each in theirs],
        quantile,
    )
    middle, low, high = (logs.estimate(), *logs.interval(doubt))
    linear = Shift(ours, theirs, quantile)
    difference, difference_low, difference_high = (linear.estimate(), *linear.interval(doubt))
    return Ratio(
        target=target,
        baseline=baseline,
        quantile=quantile,
        value=math.exp(middle),
        low=None if low is None else math.exp(low),
        high=None if high is None else math.exp(high),
        difference_us=difference * 1e6,
        difference_low_us=None if difference_low is None else difference_low * 1e6,
        difference_high_us=None if difference_high is None else difference_high * 1e6,
        confidence=confidence,
        rounds=len(pairs),
        rounds_needed=_rounds_needed(len(pairs), low, high, doubt),
    )


def _rounds_needed(rounds: int, low: float | None, high: float | None, doubt: float) -> int | None:
    """Return the rounds that find a difference worth finding; None if there are that many."""
    from scipy.stats import norm

    if low is None or high is None:
        return max(least_rounds(doubt), 2 * rounds)
    # The interval's half must leave room for the estimate's own error: found 9 times in 10.
    room = 1 + float(norm.ppf(0.9) / norm.ppf(1 - doubt / 2))
    needed = math.ceil(rounds * ((high - low) / 2 * room / math.log1p(WORTH_FINDING)) ** 2)
    return needed if needed > rounds else None
