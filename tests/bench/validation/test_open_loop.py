"""The open loop before a server with a known answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.validation.open_loop import COUNTS, check_load, check_virtual

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.mark.parametrize(("load", "count"), sorted(COUNTS.items()))
def test_by_a_virtual_clock_response_times_are_lindleys_and_p99s_are_theorys(load, count):
    found = check_virtual(load, count, service_s=0.002, seeds=range(4))
    assert found["farthest_from_lindley_us"] < 1e-3
    assert found["p99_given"] >= 1
    assert found["theory_within_interval"] >= found["p99_given"] - 1


def test_no_median_response_is_sooner_than_the_queue_of_the_same_arrivals_allows():
    found = check_load(0.6, 300, service_s=0.005, seed=0)
    assert found["requests"] == 300
    # A response is never sooner than the queue allows, whatever the machine does.
    assert found["beyond_same_arrivals_us"]["p50"] > 0
    assert found["same_arrivals_p99_us"] > 5000


def test_the_committed_runs_by_a_virtual_clock_have_the_p99_of_queueing_theory():
    result = json.loads((RESULTS / "open-loop-virtual.json").read_text())
    assert [each["load"] for each in result["virtual"]] == [0.3, 0.6, 0.9]
    for each in result["virtual"]:
        assert each["runs"] >= 40
        assert each["farthest_from_lindley_us"] < 1e-3
        assert each["p99_given"] >= 0.7 * each["runs"]
        assert each["theory_within_interval"] >= 0.9 * each["p99_given"]


def test_the_committed_runs_by_the_machines_clock_mostly_have_it_too():
    result = json.loads((RESULTS / "open-loop.json").read_text())
    for load in (0.3, 0.6, 0.9):
        runs = [each for each in result["checks"] if each["load"] == load]
        given = [each for each in runs if each["p99_us"] is not None]
        within = [
            each
            for each in given
            if each["p99_us"]["low_us"] <= each["theory_p99_us"] <= each["p99_us"]["high_us"]
        ]
        assert [each["within_interval"] for each in given].count(True) == len(within)
        assert within
        assert len(within) >= len(given) / 2
