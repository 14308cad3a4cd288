"""Several runs of one target, each from its start: what one run cannot tell of the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.latencies import QUANTILES, percentile_label, sample_floor
from bench.measure import measure
from bench.merging import merge_measurements

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.measure import Load
    from bench.measurement import Measurement
    from bench.targets import Target
    from bench.workload import Workload


@dataclass(frozen=True, slots=True)
class Spread:
    """A percentile in each of several runs, microseconds."""

    quantile: float
    runs_us: tuple[float, ...]

    @property
    def text(self) -> str:
        """Such as ``p99 in 5 runs: 7.81 to 9.2 ms``."""
        low, high = min(self.runs_us) / 1e3, max(self.runs_us) / 1e3
        return (
            f"{percentile_label(self.quantile)} in {len(self.runs_us)} runs: "
            f"{low:.3g} to {high:.3g} ms"
        )


def measure_repeatedly(
    target: Target,
    workload: Workload,
    load: Load,
    *,
    runs: int,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Measurement, tuple[Spread, ...]]:
    """Measure a target several times, each with arrivals of its own and a warm-up.

    Args:
        target: What to call.
        workload: What to send; each run goes on where the last one ended.
        load: Of each run.
        runs: How many. From five on the intervals rest on their spread too.
        command: What reproduces the measurement.
        say: Is told of each run before it begins.

    Returns:
        All runs as one measurement, and the spread of the percentiles that each run has enough
        requests for.

    Raises:
        UserError: As for `bench.measure.measure`.
    """
    parts = []
    sent = 0
    for number in range(runs):
        say(f"run {number + 1} of {runs}")
        turn = replace(load, seed=load.seed + number, first=load.first + sent)
        part = measure(target, workload, turn, command=command)
        sent += part.counts.sent
        parts.append(part)
    least = min(part.response.count for part in parts)
    spreads = [
        Spread(each, tuple(part.response.point_us(each) for part in parts))
        for each in QUANTILES
        if least >= sample_floor(each)
    ]
    return merge_measurements(parts), tuple(spreads)
