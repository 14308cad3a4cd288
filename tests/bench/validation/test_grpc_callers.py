"""Ways to call gRPC, each to the server that answers everything alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.validation.grpc_callers import CALLERS, measure_caller

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.mark.parametrize("name", CALLERS)
def test_each_is_answered_and_its_rates_are_of_what_was_answered(name):
    found = measure_caller(name, 2, 0.2)
    assert found["requests"] >= 2
    assert found["per_s"] == pytest.approx(found["per_core_s"] * found["cores"])
    assert found["per_s"] <= found["requests"] / 0.2


def test_the_committed_threads_send_at_least_what_is_promised_of_a_core():
    result = json.loads((RESULTS / "grpc-callers.json").read_text())
    threads = [each for each in result["callers"] if each["caller"] == "threads"]
    assert len(threads) == 3
    assert all(each["per_core_s"] >= 2_500 for each in threads)
