"""The drill's load sees what is wrong; the committed drill found nothing wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_ranker import make_request

from bench.validation.replica_drill import Load
from client import RankerClient

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.mark.end_to_end
def test_the_load_tells_failed_and_wrong_answers_from_right_ones(tiny_server, tiny_predictor):
    random = np.random.default_rng(0)
    requests = [make_request(random, 5) for _ in range(3)]
    expected = [tiny_predictor(each.flat()) for each in requests]
    expected[1] = expected[1] + 1
    del requests[2].user["context"]
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        load = Load(client, requests, expected)
        answers = load.open_loop(200.0, lambda: None, 0.2)
    for place, each in enumerate(answers):
        assert each.wrong == (place % 3 == 1)
        assert each.error.startswith("InvalidRequest") == (place % 3 == 2)
    assert len(answers) > 3


@pytest.mark.end_to_end
def test_what_happens_during_the_load_and_goes_wrong_is_raised(tiny_server):
    def fail():
        raise OSError("no such process")

    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        load = Load(client, [make_request(np.random.default_rng(0), 5)], [np.zeros(5)])
        with pytest.raises(OSError, match="no such process"):
            load.open_loop(200.0, fail, 0.05)


def test_the_committed_drill_lost_nothing_within_its_budget_of_extra_load():
    result = json.loads((RESULTS / "replica-drill.json").read_text())
    assert len(result["phases"]) == 6
    for each in result["phases"]:
        assert (each["failed"], each["wrong"]) == (0, 0), each["phase"]
        assert each["requests"] > 1000
        extra = each["counts"]["calls"] - each["counts"]["requests"]
        assert extra <= 0.1 * each["counts"]["requests"] + 10
