"""Ways to wait for a call, each before the server that answers everything alike."""

from __future__ import annotations

from bench.validation.client_floor import BASELINE, measure


def test_each_way_is_called_as_often_and_compared_with_the_blocking_call():
    found = {each["way"]: each for each in measure(2)}
    assert {each["calls"] for each in found.values()} == {40}
    assert found[BASELINE]["cpu_ratio"] == found[BASELINE]["p50_ratio"] == 1
    base = found[BASELINE]["cpu_us"]
    for each in found.values():
        assert abs(each["cpu_ratio"] * base - each["cpu_us"]) < 1e-6
    assert len(found) == 5
