"""Several real servers, of which one dies, stops or comes back."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from tiny_ranker import make_request

from client import Policies, RankerClient, ServerOverloaded, ServerUnreachable

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def two_servers(start_server, tiny_artifact, tmp_path):
    """Serve the tiny ranker twice; give both, and the stack that holds the second."""
    from optimize.triton.config import ServingOptions
    from optimize.triton.repository import deploy

    options = ServingOptions(queue_timeout_ms=30_000, warm_up_candidates=(1,))
    deploy(tiny_artifact, tmp_path / "models", "tiny", options=options)
    with (
        start_server(tmp_path / "models", log_file=tmp_path / "one.log") as one,
        ExitStack() as stack,
    ):
        two = stack.enter_context(start_server(tmp_path / "models", log_file=tmp_path / "two.log"))
        yield one, two, stack


def test_a_replica_that_dies_stops_or_comes_back_costs_no_answer(
    two_servers, start_server, tmp_path, tiny_predictor
):
    one, two, stack = two_servers
    random = np.random.default_rng(5)
    requests = [make_request(random, 20) for _ in range(50)]
    expected = [tiny_predictor(each.flat()) for each in requests]

    def ask(count):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(client.rank, (requests * 100)[:count]))
        for place, scores in enumerate(answers):
            np.testing.assert_allclose(scores, expected[place % 50], rtol=0, atol=1e-6)

    def until(holds):
        deadline = time.monotonic() + 60
        while not holds() and time.monotonic() < deadline:
            client.rank(requests[0])
            time.sleep(0.01)
        assert holds(), client.replicas()

    # More extra load than by default, as few requests are sent here.
    policies = Policies(extra_load=1.0, ejection_s=0.1, ramp_s=0.1)
    urls = [one.grpc_url, two.grpc_url]
    with RankerClient(urls, "tiny", timeout_s=30, policies=policies) as client:
        ask(200)  # knows its p95 now
        # Stopped: answers do not come, so hedges bring them, and it is ejected for being late.
        # (Not every time: a busy machine may have had it ejected already.)
        for _ in range(10):
            os.kill(two.pid, signal.SIGSTOP)
            try:
                ask(50)
                until(lambda: client.replicas()[1]["ejected"])
            finally:
                os.kill(two.pid, signal.SIGCONT)
            until(lambda: not client.replicas()[1]["ejected"])
            if client.counts().get("hedges_won"):
                break
        assert client.counts()["hedges_won"] >= 1
        # Killed: calls fail at once, so they are retried, and it is ejected for that.
        os.kill(two.pid, signal.SIGKILL)
        until(lambda: client.replicas()[1]["ejected"])
        ask(50)
        # Another takes its place, at its address.
        stack.close()
        port = int(two.grpc_url.rsplit(":", 1)[1])
        stack.enter_context(
            start_server(tmp_path / "models", grpc_port=port, log_file=tmp_path / "three.log")
        )
        until(lambda: not client.replicas()[1]["ejected"])
        before = client._fleet.replicas[1].health.answers
        until(lambda: client._fleet.replicas[1].health.answers > before)
        ask(50)
    assert client.counts().get("late", 0) == 0


def test_all_replicas_unreachable_is_said_with_no_more_retries_than_allowed():
    urls = ["127.0.0.1:1", "127.0.0.1:2"]
    request = make_request(np.random.default_rng(0), 3)
    with (
        RankerClient(urls, "tiny") as client,
        pytest.raises(ServerUnreachable, match=r"no server answers at 127.0.0.1:1"),
    ):
        client.rank(request)


def test_an_ejected_replica_is_probed_also_while_all_others_are_at_their_limits():
    policies = Policies(limit=True, ejection_s=1e-9)
    with RankerClient(["127.0.0.1:1", "127.0.0.1:2"], "tiny", policies=policies) as client:
        gone, full = client._fleet.replicas
        gone.health.unreachable(time.monotonic())
        full.under_way = 1000
        with pytest.raises(ServerOverloaded):
            client._fleet.pick()
        deadline = time.monotonic() + 60
        while not client.counts().get("probes") and time.monotonic() < deadline:
            time.sleep(0.01)
        assert client.counts()["probes"] == 1


def test_the_limit_refuses_what_is_above_it_at_once(tiny_server, standing_still):
    request = make_request(np.random.default_rng(0), 3)
    policies = Policies(limit=True)
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30, policies=policies) as client:
        client.rank(request)
        with (
            standing_still(tiny_server),
            pytest.raises(ServerOverloaded, match="as many requests are under way as are answ"),
        ):
            client.rank_many([request] * 500, at_once=500)
        assert client.counts()["shed"] == 1
        client._fleet.endpoints[0].calls._count.wait(30)
        assert len(client.rank(request)) == 3
