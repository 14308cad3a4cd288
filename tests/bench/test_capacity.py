"""The highest rate that holds, before servers of known service times on a virtual clock."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from bench.capacity import find_capacity
from bench.slo import parse_slo
from bench.targets import CallableTarget, open_target
from bench.workload import make_workload
from bench.workload_recipe import load_recipe
from rankers.errors import UserError


@pytest.fixture
def server(virtual_time, monkeypatch):
    """Make a target that serves one request at a time, each for so many seconds."""
    monkeypatch.setattr("bench.capacity.time", SimpleNamespace(monotonic=virtual_time.now))

    def make(seconds):
        def call(request):
            virtual_time.pass_by(seconds)
            return request.items["price"][:, 0]

        return CallableTarget("server", call, instances=1)

    return make


def test_the_answer_was_shown_to_hold_and_lies_below_what_the_server_can_do(server, workload):
    found = find_capacity(server(0.0005), workload, parse_slo("p99=150ms"), budget_s=120, warmup=5)
    # By M/D/1 the p99 is 150 ms at 99 % of the 2,000/s that the server does. Requests that queue
    # depend on each other, so near that it takes more of them to show it than there is time for.
    assert 0.65 * 2000 < found.rate_per_s < 2000
    held = [each for each in found.points if each.rate_per_s == found.rate_per_s]
    assert held[0].verdict.answer == "holds"
    rates = [each.rate_per_s for each in found.points]
    assert rates == sorted(rates)
    assert max(rates) > found.limit_per_s > found.rate_per_s  # what it does when it is too much
    assert all(each.goodput_per_s <= 2001 for each in found.points)
    assert all(each.measurement.duration_s >= 0.9 * 3 for each in found.points)  # 0.15 s / 5 %
    assert f"{found.rate_per_s:,.4g} requests/s" in found.text


def test_a_bound_below_the_service_time_is_not_held_at_any_rate(server, workload):
    found = find_capacity(server(0.002), workload, parse_slo("p99=1ms"), budget_s=80, warmup=5)
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


def test_a_budget_that_a_slow_target_needs_more_of_is_refused_after_the_first_look(
    server, workload
):
    with pytest.raises(UserError, match=r"1,001 requests at half of what.*give --budget \d+$"):
        find_capacity(server(0.01), workload, parse_slo("p99=20ms"), budget_s=10, warmup=0)


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
        found = find_capacity(target, requests, parse_slo("p99=50ms"), budget_s=4, warmup=20)
    except UserError as error:  # a machine too busy for 1,001 requests in 4 s
        assert "give --budget" in str(error)  # noqa: PT017 - either is right
    else:
        assert found.points
        for each in found.points:
            assert each.measurement.target["kind"] == "grpc"
            assert each.measurement.load["rate_per_s"] == each.rate_per_s
            assert each.verdict.requests >= each.measurement.counts.ok
        assert "50 ms" in found.text
    finally:
        target.close()
