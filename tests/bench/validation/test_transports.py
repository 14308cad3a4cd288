"""Every way to a served model, over the real server."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from bench.validation.served_identity import make_request, served_identity
from bench.validation.transport_ways import PLAIN, Ways
from bench.validation.transports import at_once, in_turn

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"
pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def server():
    with served_identity() as running:
        yield running


def test_every_way_brings_the_scores_of_the_request(server):
    request = make_request(7)
    with ExitStack() as stack:
        ways = Ways(server.grpc_url, server.http_url, request, stack)
        found = {
            name: getattr(ways, name)()()
            for name in (
                *("plain_grpc", "plain_http", "raw_grpc", "raw_http"),
                *("raw_shared_grpc", "raw_shared_http", "raw_http2", "ours"),
            )
        }
        found["on"] = ways.ours(policies=True)()
        for scores in found.values():
            np.testing.assert_array_equal(scores, request.items["x"][:, 0])


def test_all_are_called_as_often_and_compared_with_the_plain_client(server):
    with ExitStack() as stack:
        ways = Ways(server.grpc_url, server.http_url, make_request(3), stack).all()
        found = in_turn(ways, 1)
        assert {each["calls"] for each in found} == {20}
        assert {each["way"] for each in found} == set(ways)
        (plain,) = [each for each in found if each["way"] == PLAIN]
        assert plain["cpu_ratio"] == {"median": 1.0, "quartile_1": 1.0, "quartile_3": 1.0}
        rates = at_once({PLAIN: ways[PLAIN]}, rounds=1, calls=1)
        assert rates[0]["per_s"] > 0
        assert rates[0]["ratio"]["median"] == 1.0


def test_the_committed_clients_cost_no_more_than_the_plain_one():
    found = json.loads((RESULTS / "transports.json").read_text())
    ways = {each["way"]: each for each in found["sizes"][0]["ways"]}
    assert found["sizes"][0]["candidates"] == 200
    assert ways["client, policies on"]["cpu_ratio"]["median"] <= 1.0
    assert ways["client, policies on"]["p50_ratio"]["median"] <= 1.0
    assert ways["client, policies off"]["cpu_ratio"]["median"] <= 0.8
    rates = {each["way"]: each["ratio"]["median"] for each in found["at_once"]}
    assert rates["client, policies off"] >= 1.5
