"""All ways to a served model give the scores of our client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_request

from bench.measure import Load, measure
from bench.targets import open_target
from bench.transports import TRANSPORTS
from bench.workload import make_workload
from bench.workload_recipe import load_recipe
from client import RankerClient
from rankers.errors import UserError

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def address(tiny_server):
    def of(kind, model="tiny"):
        url = tiny_server.http_url.removeprefix("http://")
        return f"{kind}://{url if kind == 'http' else tiny_server.grpc_url}/{model}"

    return of


@pytest.fixture(params=sorted(TRANSPORTS))
def target(request, address):
    opened = open_target(address(request.param))
    yield opened
    opened.close()


def test_scores_are_those_of_our_client(target, tiny_server):
    random = np.random.default_rng(3)
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        for candidates in (1, 5, 700, 2, 1500):  # larger, then smaller: regions are used again
            request = make_request(random, candidates)
            scores = target(target.prepare(request))
            assert scores.dtype == np.float32
            np.testing.assert_array_equal(scores, client.rank(request))


def test_threads_get_their_own_scores(target, tiny_predictor):
    random = np.random.default_rng(4)
    requests = [make_request(random, int(n)) for n in random.integers(1, 200, 60)]
    prepared = [target.prepare(each) for each in requests]
    # As many threads as instances: a queue that forgets to wake up is not what is tested here.
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(target, prepared))
    for request, scores in zip(requests, answers, strict=True):
        np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)


def test_a_workload_is_made_up_for_what_the_server_states(target):
    assert target.signature == SIGNATURE
    workload = make_workload(load_recipe("interactive"), target.signature)
    found = measure(target, workload, Load(count=30, concurrency=2, warmup=4))
    assert (found.counts.ok, found.counts.errors) == (30, 0)


def test_an_unknown_model_is_one_line(address):
    for kind in TRANSPORTS:
        with pytest.raises(UserError, match="nobody"):
            open_target(address(kind, "nobody"))


def test_shared_memory_is_removed_on_closing(address):
    def left():
        return list(Path("/dev/shm").glob("rankserve_bench_*"))  # noqa: S108 - where shared memory is

    target = open_target(address("shm"))
    target(target.prepare(make_request(np.random.default_rng(0), 5)))
    assert left()
    target.close()
    assert not left()


def test_an_error_of_the_server_is_raised(target):
    request = make_request(np.random.default_rng(0), 3)
    request.items["price"][1, 0] = -1.0
    with pytest.raises(Exception, match="score of candidate 1 is nan"):
        target(target.prepare(request))
