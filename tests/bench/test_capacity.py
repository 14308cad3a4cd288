"""The highest rate that holds. Real loads, so only what no slow machine can change is asserted."""

from __future__ import annotations

import time

import numpy as np
import pytest

from bench.capacity import RESOLUTION, find_capacity
from bench.slo import parse_slo
from bench.targets import CallableTarget, open_target
from bench.workload import make_workload
from bench.workload_recipe import load_recipe
from rankers.errors import UserError


def sleeper(seconds, instances=1):
    def call(request):
        time.sleep(seconds)
        return request.items["price"][:, 0]

    return CallableTarget("sleeper", call, instances=instances)


def test_the_answer_lies_below_what_the_server_can_do(workload):
    target = sleeper(0.0005)
    found = find_capacity(target, workload, parse_slo("p99=150ms"), budget_s=20, warmup=5)
    assert found.rate_per_s is not None
    assert found.rate_per_s < 2000 * RESOLUTION  # a request takes 0.5 ms, one at a time
    held = [each for each in found.points if each.rate_per_s == found.rate_per_s]
    assert held[0].verdict.answer == "holds"
    rates = [each.rate_per_s for each in found.points]
    assert rates == sorted(rates)
    assert all(each.goodput_per_s <= 2040 for each in found.points)
    assert all(each.measurement.duration_s >= 0.9 * 3 for each in found.points)  # 0.15 s / 5 %
    assert f"{found.rate_per_s:,.4g} requests/s" in found.text


def test_a_bound_below_the_service_time_is_not_held_at_any_rate(workload):
    found = find_capacity(sleeper(0.002), workload, parse_slo("p99=1ms"), budget_s=8, warmup=5)
    assert found.rate_per_s is None
    assert found.text.startswith("p99 ≤ 1 ms was not shown to hold at any rate: ")
    assert all(each.goodput_per_s == 0 for each in found.points)


@pytest.mark.parametrize("budget", [1.9, 0.05, 0, -1])
def test_a_budget_that_holds_no_run_is_refused_before_anything_is_measured(workload, budget):
    def never(_):
        raise AssertionError

    with pytest.raises(UserError, match=r"each takes 2 s or more; give --budget 20$"):
        find_capacity(
            CallableTarget("unasked", never), workload, parse_slo("p99=100ms"), budget_s=budget
        )


def test_a_budget_that_a_slow_target_needs_more_of_is_refused_after_the_first_look(workload):
    with pytest.raises(UserError, match=r"1,001 requests at half of what.*give --budget \d+$"):
        find_capacity(sleeper(0.01), workload, parse_slo("p99=20ms"), budget_s=10, warmup=0)


def test_a_target_that_fails_every_request_is_named(workload):
    calls = iter(range(10_000))

    def once(request):
        if next(calls):
            raise RuntimeError("out of order")
        return np.zeros(request.candidates, np.float32)

    with pytest.raises(UserError, match="failed every request: RuntimeError: out of order"):
        find_capacity(CallableTarget("broken", once), workload, parse_slo("p99=10ms"), budget_s=5)


@pytest.mark.end_to_end
def test_a_served_model_has_a_capacity_too(tiny_server):
    target = open_target(f"grpc://{tiny_server.grpc_url}/tiny")
    try:
        requests = make_workload(load_recipe("interactive"), target.signature)
        found = find_capacity(target, requests, parse_slo("p99=100ms"), budget_s=8, warmup=20)
    except UserError as error:  # a machine too busy for 1,001 requests in 8 s
        assert "give --budget" in str(error)  # noqa: PT017 - either is right
    else:
        assert found.points
        for each in found.points:
            assert each.measurement.target["kind"] == "grpc"
            assert each.measurement.load["rate_per_s"] == each.rate_per_s
            assert each.verdict.requests >= each.measurement.counts.ok
        assert "100 ms" in found.text
    finally:
        target.close()
