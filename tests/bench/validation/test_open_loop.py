"""The open loop before a server with a known answer."""

from __future__ import annotations

import json
from pathlib import Path

from bench.validation.open_loop import check_load

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


def test_no_median_response_is_sooner_than_the_queue_of_the_same_arrivals_allows():
    found = check_load(0.6, 300, service_s=0.005, seed=0)
    assert found["requests"] == 300
    # A response is never sooner than the queue allows, whatever the machine does.
    assert found["beyond_same_arrivals_us"]["p50"] > 0
    assert found["same_arrivals_p99_us"] > 5000


def test_the_committed_open_loop_has_the_p99_of_queueing_theory():
    result = json.loads((RESULTS / "open-loop.json").read_text())
    assert [each["load"] for each in result["checks"]] == [0.3, 0.6, 0.9]
    for each in result["checks"]:
        assert each["within_interval"]
        low, high = each["p99_us"]["low_us"], each["p99_us"]["high_us"]
        assert low <= each["theory_p99_us"] <= high
