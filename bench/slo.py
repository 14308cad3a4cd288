"""A service-level objective: a bound on a percentile of the response time, such as p99=10ms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.early_stopping import CONFIDENCE, Verdict, judge
from bench.effective import effective_count, worth
from bench.latencies import percentile_label
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.measurement import Measurement
    from rankers.requests import Array

_FORM = re.compile(r"p(\d{1,2}(?:\.\d+)?)\s*(?:=|<=|≤|<)\s*(\d+(?:\.\d+)?)\s*(us|µs|ms|s)")
# Looked at for dependence, in multiples of the share that may miss: `bench.validation.coverage`
# counts how often the verdict is wrong with it.
_TAILS = (1, 3)
_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}


@dataclass(frozen=True, slots=True)
class Slo:
    """At most ``1 - quantile`` of all requests may take longer than the bound, or fail."""

    quantile: float
    bound_ms: float

    @property
    def text(self) -> str:
        """Such as ``p99 ≤ 10 ms``."""
        return f"{percentile_label(self.quantile)} ≤ {self.bound_ms:g} ms"

    def to_json(self) -> dict[str, Any]:
        """Return the objective as JSON-ready data."""
        return {"quantile": self.quantile, "bound_ms": self.bound_ms}

    def met(self, measurement: Measurement) -> int:
        """Return how many requests were answered in time."""
        microseconds, counts = measurement.response.distribution()
        return int(counts[microseconds <= self.bound_ms * 1e3].sum())

    def judge(self, measurement: Measurement, *, confidence: float = CONFIDENCE) -> Verdict:
        """Judge whether a measured target holds the objective.

        Misses that come in a row, as those of a queue do, count as few, and so do requests without
        one where those at the objective's percentile come in rows: see `bench.effective`. A run of
        a queue that happened to stay short would otherwise prove that it does. Errors and dropped
        requests are misses.
        """
        total = measurement.counts.sent + measurement.counts.dropped
        misses = total - self.met(measurement)
        samples = measurement.response.samples_ns
        part = 1.0
        if samples is not None and len(samples):
            part = evidence(samples, self.bound_ms * 1e6, self.quantile, measurement.rounds)
        found = judge(
            int(np.floor(total * part)),
            min(int(np.ceil(misses * part)), int(np.floor(total * part))),
            self.quantile,
            confidence=confidence,
        )
        more = None if found.more is None else int(np.ceil(found.more / part))
        return Verdict(found.answer, total, misses, self.quantile, confidence, more)


def evidence(samples: Array, bound: float, quantile: float, rounds: Sequence[int] = ()) -> float:
    """Return which part of a run's requests count as independent ones on whether a bound holds.

    Args:
        samples: Response times ``[count]`` in the order of time, at least one.
        bound: In the same unit.
        quantile: That the bound is on.
        rounds: As for `bench.effective.effective_count`.
    """
    here = effective_count(samples > bound, rounds)
    return min(here, worth(samples, quantile, rounds, tails=_TAILS)) / len(samples)


def parse_slo(text: str) -> Slo:
    """Read an objective such as ``p99=10ms``, ``p99.9=50ms`` or ``p50=800us``.

    Raises:
        UserError: It is not of that form, or its bound is 0.
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        raise UserError(
            f"{text!r} is no objective: give a percentile and a bound, such as p99=10ms"
        )
    quantile = float(found[1]) / 100
    bound_ms = float(found[2]) * _SECONDS[found[3]] * 1e3
    if not 0 < quantile < 1 or not bound_ms:
        raise UserError(f"{text!r}: the percentile lies between p0 and p100, the bound above 0")
    return Slo(round(quantile, 6), round(bound_ms, 9))
