"""What makes a measurement void."""

from __future__ import annotations

import numpy as np
import pytest

from bench.latencies import record
from bench.measurement import Counts

SERVER = {"name": "a", "kind": "grpc", "device": "cpu", "instances": None}


def test_an_undisturbed_measurement_is_not_void(make_measurement):
    assert make_measurement().void == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"counts": Counts(ok=999, errors=1), "error_messages": ("Boom: x",)}, "Boom: x"),
        ({"counts": Counts(ok=1000, dropped=3)}, "3 arrivals were dropped"),
        ({"counts": Counts(ok=367)}, "send 368 or more"),
        ({"steal_share": 0.06}, "6.0% of CPU time was stolen"),
        ({"counts": Counts(ok=1000, late=11), "target": SERVER}, "give it more workers"),
        ({"lag": record(np.full(1000, 0.005))}, "the generator's own lag"),
    ],
)
def test_each_disturbance_is_one_reason(make_measurement, changes, reason):
    (found,) = make_measurement(**changes).void
    assert reason in found


@pytest.mark.parametrize(
    "changes",
    [
        {"steal_share": 0.05},
        {"steal_share": None},
        {"counts": Counts(ok=368)},
        {"counts": Counts(ok=1000, late=10), "target": SERVER},
        {"lag": record(np.full(1000, 1e-5))},
    ],
)
def test_what_is_within_its_limit_is_no_reason(make_measurement, changes):
    assert make_measurement(**changes).void == ()


def test_waiting_before_a_target_in_process_is_its_queue_and_no_reason(make_measurement):
    assert make_measurement(counts=Counts(ok=1000, late=900)).void == ()


def test_a_measurement_without_answers_is_void(make_measurement):
    empty = np.empty(0)
    found = make_measurement(empty, counts=Counts(ok=0, errors=5), lag=record(np.ones(3)))
    assert len(found.void) == 2


def test_a_clock_that_was_set_makes_a_run_void(make_measurement):
    (reason,) = make_measurement(clock_drift_s=1.5).void
    assert "drew apart by 1500 ms" in reason
    assert not make_measurement(clock_drift_s=0.003).void


def test_sizes_that_were_not_warmed_up_make_a_run_void(make_measurement):
    (reason,) = make_measurement(unwarmed=10).void
    assert "10 requests were the first of their number of candidates" in reason
    assert not make_measurement(unwarmed=4).void


def test_lag_is_held_against_the_objective_where_there_is_one(make_measurement):
    lag = record(np.full(1000, 0.000_6))  # 0.6 ms; the response p99 is some 9 ms
    assert "of the response p99" in make_measurement(lag=lag).void[0]
    load = {"mode": "open", "rate_per_s": 10, "slo": {"quantile": 0.99, "bound_ms": 20}}
    assert make_measurement(lag=lag, load=load).void == ()
    strict = load | {"slo": {"quantile": 0.99, "bound_ms": 10}}
    (reason,) = make_measurement(lag=lag, load=strict).void
    assert "above 5% of the objective (10.00 ms)" in reason


def test_a_gpu_that_was_slowed_down_makes_a_run_void(make_measurement):
    state = {"index": 1, "seen": 20, "slowed": {"heat (driver)": 2, "power limit": 1}}
    (reason,) = make_measurement(gpu=(state,)).void
    assert "GPU 1 was slowed down by heat (driver) in 2 of 20 looks" in reason
