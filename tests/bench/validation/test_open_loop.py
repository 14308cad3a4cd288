"""The open loop before a server with a known answer."""

from __future__ import annotations

from bench.validation.open_loop import check_load


def test_no_median_response_is_sooner_than_the_queue_of_the_same_arrivals_allows():
    found = check_load(0.6, 300, service_s=0.005, seed=0)
    assert found["requests"] == 300
    # A response is never sooner than the queue allows, whatever the machine does.
    assert found["beyond_same_arrivals_us"]["p50"] > 0
    assert found["same_arrivals_p99_us"] > 5000
