"""What a search for a capacity found: the answer, and what the target did at each rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.measurement import Measurement
from bench.slo import Slo
from bench.validity import LARGEST_LAG_SHARE

if TYPE_CHECKING:
    from bench.early_stopping import Verdict


@dataclass(frozen=True, slots=True)
class Point:
    """What a target did at one rate.

    Attributes:
        rate_per_s: Of the Poisson arrivals.
        verdict: Whether the objective holds there.
        goodput_per_s: Requests answered within the objective's bound, per second.
        generator_is_late: Whether the generator's own lag is too large a part of the bound.
        measurement: All else.
    """

    rate_per_s: float
    verdict: Verdict
    goodput_per_s: float
    generator_is_late: bool
    measurement: Measurement

    @classmethod
    def judged(cls, slo: Slo, rate_per_s: float, found: Measurement) -> Point:
        """Judge what was measured at a rate."""
        lag_ms = found.lag.point_us(0.99) / 1e3 if found.lag.count else 0.0
        return cls(
            rate_per_s=rate_per_s,
            verdict=slo.judge(found),
            goodput_per_s=slo.met(found) / found.duration_s if found.duration_s else 0.0,
            generator_is_late=lag_ms > LARGEST_LAG_SHARE * slo.bound_ms,
            measurement=found,
        )

    @property
    def holds(self) -> bool:
        """Whether the objective was shown to hold."""
        return self.verdict.answer == "holds"

    def to_json(self) -> dict[str, Any]:
        """Return the point as JSON-ready data."""
        return {
            "rate_per_s": self.rate_per_s,
            "verdict": self.verdict.to_json(),
            "goodput_per_s": self.goodput_per_s,
            "generator_is_late": self.generator_is_late,
            "measurement": self.measurement.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much a target can do within an objective.

    Attributes:
        slo: The objective.
        rate_per_s: The highest rate that was shown to hold; None if none was.
        limit_per_s: The lowest rate above it that did not; None if every rate held.
        points: Every rate that was measured, ascending.
        remark: What the reader must know of the answer; may be empty.
    """

    slo: Slo
    rate_per_s: float | None
    limit_per_s: float | None
    points: tuple[Point, ...]
    remark: str

    @property
    def text(self) -> str:
        """The answer in one line."""
        if self.rate_per_s is None:
            said = f"{self.slo.text} was not shown to hold at any rate"
        else:
            said = f"{self.slo.text} holds up to {self.rate_per_s:,.4g} requests/s"
        return f"{said}: {self.remark}" if self.remark else said

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """Those of all rates."""
        return tuple(each.measurement for each in self.points)

    def to_json(self) -> dict[str, Any]:
        """Return answer and curve as JSON-ready data."""
        return {
            "slo": self.slo.to_json(),
            "rate_per_s": self.rate_per_s,
            "limit_per_s": self.limit_per_s,
            "remark": self.remark,
            "text": self.text,
            "points": [each.to_json() for each in self.points],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Capacity:
        """Read what `to_json` wrote; rates are judged anew."""
        slo = Slo(data["slo"]["quantile"], data["slo"]["bound_ms"])
        points = tuple(
            Point.judged(slo, each["rate_per_s"], Measurement.from_json(each["measurement"]))
            for each in data["points"]
        )
        return cls(slo, data["rate_per_s"], data["limit_per_s"], points, data["remark"])
