"""Intervals of simulated queues whose percentiles are known. The long version is committed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.validation.coverage import count_covered

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.mark.parametrize("queue", ["M/M/1", "M/D/1"])
@pytest.mark.parametrize(("load", "requests"), [(0.3, 4_000), (0.6, 12_000)])
def test_intervals_of_runs_that_are_long_enough_hold_the_percentiles(queue, load, requests):
    found = count_covered(queue, load, requests, repeats=40, seed=7)
    for each in found["percentiles"].values():
        assert each["given"] >= 36
        # 95 % of 40 would be 38; fewer than 34 come up once in a hundred times.
        assert each["held"] >= each["given"] - 6
    assert found["false_holds"] <= 2


def test_a_run_too_short_for_its_queue_gets_no_p99_and_no_verdict():
    found = count_covered("M/M/1", 0.9, 20_000, repeats=20, seed=7)
    assert found["percentiles"]["p99"]["given"] <= 1
    assert found["percentiles"]["p50"]["given"] == 20
    assert found["false_holds"] <= 1


def test_the_committed_intervals_hold_in_nine_of_ten_runs_where_they_are_given():
    result = json.loads((RESULTS / "coverage.json").read_text())
    assert {each["load"] for each in result["checks"]} == {0.3, 0.6, 0.9}
    assert {each["queue"] for each in result["checks"]} == {"M/M/1", "M/D/1"}
    for check in result["checks"]:
        assert check["repeats"] == 200
        assert check["false_holds"] <= 0.02 * 200
        for each in check["percentiles"].values():
            missed = each["given"] - each["held"]
            # A run that is far too short seldom gets one; those that do are no fair sample.
            seldom = each["given"] < 0.2 * 200
            assert missed <= (0.02 * 200 if seldom else 0.1 * each["given"])
    # The longer runs of each load do get their p99.
    long = [each for each in result["checks"] if each["requests"] in {4_000, 20_000, 150_000}]
    assert sum(each["percentiles"]["p99"]["given"] >= 160 for each in long) >= 6
