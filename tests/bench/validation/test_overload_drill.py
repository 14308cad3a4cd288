"""What the drill says of requests that were answered in time, late and not at all."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.validation.overload_drill import Load, judge

LOAD = Load(capacity_per_s=100.0, deadline_s=0.2, calm_s=10.0, overload_s=20.0, factor=3.0)


@pytest.fixture
def due():
    return LOAD.arrivals(0)


def test_arrivals_are_half_of_the_capacity_then_three_times_then_half(due):
    rates = [np.sum((due >= a) & (due < b)) / (b - a) for a, b in [(0, 10), (10, 30), (30, 40)]]
    np.testing.assert_allclose(rates, [50, 300, 50], rtol=0.15)
    assert (np.diff(due) >= 0).all()


def test_goodput_is_what_came_in_time_as_a_share_of_what_could_have(due):
    took = np.full(len(due), 0.05)
    during = np.flatnonzero((due >= 10) & (due < 30))
    took[during] = 0.3  # late
    took[during[:600]] = 0.1
    took[during[600:900]] = np.inf  # refused
    found = judge(LOAD, due, took)
    assert found["goodput_share_of_capacity"] == 600 / (100 * 20)
    assert (found["good_before"], found["good_after"]) == (1.0, 1.0)
    assert found["normal_p99_ms"] == 50.0
    assert found["recovery_s"] == 0.0


def test_recovery_is_when_no_window_has_a_p99_that_is_not_normal(due):
    took = np.full(len(due), 0.05)
    took[(due >= 30) & (due < 33.5)] = 0.1
    assert judge(LOAD, due, took)["recovery_s"] == 4.0
    took[due >= 30] = np.inf
    assert judge(LOAD, due, took)["recovery_s"] is None


def test_one_slow_request_in_five_seconds_is_not_a_slow_window(due):
    took = np.full(len(due), 0.05)
    took[np.flatnonzero(due >= 32)[0]] = 5.0
    assert judge(LOAD, due, took)["recovery_s"] == 0.0


def test_the_committed_drill_kept_the_capacity_and_without_the_limit_lost_it():
    results = Path(__file__).parents[3] / "bench" / "results" / "validation"
    limited, unlimited = json.loads((results / "overload-drill.json").read_text())["runs"]
    assert limited["limit"]
    assert not unlimited["limit"]
    assert [each["void"] for each in (limited, unlimited)] == [False, False]
    assert limited["goodput_share_of_capacity"] >= 0.85
    assert limited["recovery_s"] <= 5
    assert unlimited["goodput_share_of_capacity"] < 0.1
