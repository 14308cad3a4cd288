"""Objectives and their verdicts."""

from __future__ import annotations

import numpy as np
import pytest

from bench.measurement import Counts
from bench.slo import parse_slo
from bench.validation.queueing import simulate
from rankers.errors import UserError


@pytest.mark.parametrize(
    ("text", "quantile", "bound_ms", "said"),
    [
        ("p99=10ms", 0.99, 10, "p99 ≤ 10 ms"),
        ("p99.9=50ms", 0.999, 50, "p99.9 ≤ 50 ms"),
        ("p50 <= 800us", 0.5, 0.8, "p50 ≤ 0.8 ms"),
        ("p95=1.5s", 0.95, 1500, "p95 ≤ 1500 ms"),
    ],
)
def test_reads_what_people_write(text, quantile, bound_ms, said):
    found = parse_slo(text)
    assert (found.quantile, found.bound_ms) == (quantile, pytest.approx(bound_ms))
    assert found.text == said


@pytest.mark.parametrize("text", ["", "p99", "99=10ms", "p99=10", "p0=1ms", "p99=0ms", "p100=1ms"])
def test_refuses_what_is_no_objective(text):
    with pytest.raises(UserError):
        parse_slo(text)


def test_a_run_within_the_bound_holds_and_one_beyond_does_not(make_measurement):
    measurement = make_measurement(np.full(700, 0.005))
    assert parse_slo("p99=6ms").judge(measurement).answer == "holds"
    assert parse_slo("p99=4ms").judge(measurement).answer == "does not hold"


def test_errors_and_dropped_requests_are_misses(make_measurement):
    times = np.full(700, 0.005)
    failing = make_measurement(times, counts=Counts(ok=700, errors=20, dropped=20))
    found = parse_slo("p99=6ms").judge(failing)
    assert (found.requests, found.misses, found.answer) == (740, 40, "does not hold")


def test_misses_in_a_row_count_as_few(make_measurement):
    scattered, together = np.full(6000, 0.005), np.full(6000, 0.005)
    scattered[::75] = 0.02
    together[3000:3080] = 0.02
    slo = parse_slo("p99=6ms")
    assert slo.judge(make_measurement(scattered)).answer == "does not hold"
    assert slo.judge(make_measurement(together)).answer == "undecided"


def test_a_queue_that_stayed_short_by_chance_is_no_proof_that_it_does(make_measurement):
    random = np.random.default_rng(2)
    arrivals = np.cumsum(random.exponential(1 / 0.9, 1001))
    times = simulate(arrivals, random.exponential(1, 1001)) * 1e-3
    # Nothing misses the bound; but 1,001 requests at 90 % load are a handful of busy periods.
    slo = parse_slo(f"p99={times.max() * 1e3 * 1.01:.0f}ms")
    found = slo.judge(make_measurement(times))
    assert (found.misses, found.answer) == (0, "undecided")
    assert found.more > 10_000
    shuffled = make_measurement(random.permutation(times))
    assert slo.judge(shuffled).answer == "holds"
