"""The highest rate that holds. Real loads, so only what no slow machine can change is asserted."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.capacity import RESOLUTION, find_capacity
from bench.slo import parse_slo
from bench.targets import CallableTarget
from rankers.errors import UserError


def sleeper(seconds, instances=1):
    def call(request):
        time.sleep(seconds)
        return request.items["price"][:, 0]

    return CallableTarget("sleeper", call, instances=instances)


def test_the_answer_lies_below_what_the_server_can_do(workload):
    target = sleeper(0.002)
    found = find_capacity(target, workload, parse_slo("p99=200ms"), budget_s=20, warmup=5)
    assert found.rate_per_s is not None
    assert found.rate_per_s < 500 * RESOLUTION  # a request takes 2 ms, one at a time
    held = [each for each in found.points if each.rate_per_s == found.rate_per_s]
    assert held[0].verdict.answer == "holds"
    rates = [each.rate_per_s for each in found.points]
    assert rates == sorted(rates)
    assert all(each.goodput_per_s <= 510 for each in found.points)
    assert all(each.measurement.duration_s >= 0.9 * 4 for each in found.points)  # 0.2 s / 5 %
    assert f"{found.rate_per_s:,.4g} requests/s" in found.text


def test_a_bound_below_the_service_time_is_not_held_at_any_rate(workload):
    found = find_capacity(sleeper(0.002), workload, parse_slo("p99=1ms"), budget_s=8, warmup=5)
    assert found.rate_per_s is None
    assert found.text.startswith("p99 ≤ 1 ms was not shown to hold at any rate: ")
    assert all(each.goodput_per_s == 0 for each in found.points)


def test_a_budget_for_nothing_says_so(workload):
    found = find_capacity(sleeper(0.002), workload, parse_slo("p99=100ms"), budget_s=0.05, warmup=0)
    assert found.rate_per_s is None
    assert "--budget" in found.text
    assert found.to_json()["points"] == []


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_is_above_zero(workload, budget):
    with pytest.raises(UserError, match="above 0"):
        find_capacity(sleeper(0.001), workload, parse_slo("p99=1s"), budget_s=budget)


def test_a_target_that_fails_every_request_is_named(workload):
    calls = iter(range(10_000))

    def once(request):
        if next(calls):
            raise RuntimeError("out of order")
        return np.zeros(request.candidates, np.float32)

    with pytest.raises(UserError, match="failed every request: RuntimeError: out of order"):
        find_capacity(CallableTarget("broken", once), workload, parse_slo("p99=1s"), budget_s=5)
