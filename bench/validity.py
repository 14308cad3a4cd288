"""When a measurement cannot be believed: its tail is then the machine's or the generator's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.latencies import percentile_label, sample_floor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.measurement import Measurement

LARGEST_LAG_SHARE = 0.05
LARGEST_STEAL_SHARE = 0.05
LARGEST_LATE_SHARE = 0.01
# First calls of a size that are so many move the p99.
LARGEST_UNWARMED_SHARE = 0.005
# NTP slews by at most 0.5 ms a second; a second's worth of that is nothing in a minute's run.
LARGEST_DRIFT_SHARE = 0.001
_LEAST_DRIFT_S = 0.005
# Of the looks at a GPU: one of a hundred is not what a p99 is made of.
LARGEST_SLOWED_SHARE = 0.05


def void_reasons(measurement: Measurement) -> Iterator[str]:
    """Yield why the measurement cannot be believed; each reason says what to do."""
    yield from _failures(measurement)
    yield from _disturbances(measurement)


def _failures(measurement: Measurement) -> Iterator[str]:
    counts = measurement.counts
    if counts.errors:
        first = measurement.error_messages[0] if measurement.error_messages else "no message"
        yield f"{counts.errors} of {counts.sent} requests failed ({first}): mend the cause"
    if counts.dropped:
        yield f"{counts.dropped} arrivals were dropped: the target cannot keep up, lower the rate"
    if counts.ok < (floor := sample_floor(0.99)):
        yield (
            f"{counts.ok} answered requests are too few for a {percentile_label(0.99)}: "
            f"send {floor} or more"
        )


def _disturbances(measurement: Measurement) -> Iterator[str]:
    counts, steal = measurement.counts, measurement.steal_share
    if steal is not None and steal > LARGEST_STEAL_SHARE:
        yield (
            f"{steal:.1%} of CPU time was stolen by other guests of the host: "
            "measure on a quieter machine"
        )
    if measurement.clock_drift_s > max(
        _LEAST_DRIFT_S, LARGEST_DRIFT_SHARE * measurement.duration_s
    ):
        yield (
            f"the clocks drew apart by {measurement.clock_drift_s * 1e3:.0f} ms: the time was set "
            "or the machine slept; measure again"
        )
    if measurement.unwarmed > LARGEST_UNWARMED_SHARE * counts.sent:
        yield (
            f"{measurement.unwarmed} requests were the first of their number of candidates and "
            "took over three times as long as others: warm up with more requests (--warmup)"
        )
    queues_by_itself = measurement.target.get("instances") is None
    if queues_by_itself and counts.late > LARGEST_LATE_SHARE * counts.sent:
        yield (
            f"{counts.late} arrivals found every worker busy: the generator throttled the load, "
            "give it more workers"
        )
    for state in measurement.gpu:
        for reason, times in state["slowed"].items():
            if times <= LARGEST_SLOWED_SHARE * state["seen"]:
                continue
            yield (
                f"GPU {state['index']} was slowed down by {reason} in {times} of {state['seen']} "
                "looks at it: cool it, raise its power limit or lock its clocks"
            )
    yield from _lag(measurement)


def _lag(measurement: Measurement) -> Iterator[str]:
    """Hold the generator's lag against the objective; without one, against what was measured."""
    if not measurement.lag.count or not measurement.response.count:
        return
    lag_us, slo = measurement.lag.point_us(0.99), measurement.load.get("slo")
    if slo is None:
        limit_us, of = measurement.response.point_us(0.99), "response p99"
    else:
        limit_us, of = slo["bound_ms"] * 1e3, "objective"
    if lag_us > LARGEST_LAG_SHARE * limit_us:
        yield (
            f"the generator's own lag (p99 {lag_us:.0f} µs) is above {LARGEST_LAG_SHARE:.0%} of "
            f"the {of} ({limit_us / 1e3:.2f} ms): give it a core of its own"
        )
