"""Artifacts that need torch, served by the real embedded server as they score in process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import example_rankers
import numpy as np
import pytest

from client import RankerClient
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.triton.config import ServingOptions
from optimize.triton.repository import deploy

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def artifacts(store):
    program = capture(example_rankers.tiny(), store, candidates=(1, 37))
    once = run_stage("user_once", {"when": "always"}, program, store)
    buckets = {"sizes": "4,16,64"}
    return {"program": program, "graphs": run_stage("cuda_graphs", buckets, once, store)}


@pytest.fixture(scope="module")
def server(artifacts, start_server, tmp_path_factory):
    repository = tmp_path_factory.mktemp("torch") / "models"
    options = ServingOptions(instances=2, queue_timeout_ms=60_000, max_queue_delay_us=20_000)
    for name, artifact in artifacts.items():
        deploy(artifact, repository, name, options=options)
    with start_server(repository, ready_timeout_s=300) as running:
        assert not running.failed
        yield running


@pytest.mark.parametrize("name", ["program", "graphs"])
class TestServed:
    def test_scores_are_those_in_process_bit_by_bit(self, name, artifacts, server):
        manifest, predict = artifacts[name].manifest, open_predictor(artifacts[name], threads=1)
        with RankerClient(server.grpc_url, name, timeout_s=60) as client:
            for candidates in (1, 2, 37, 200):
                batch = sample_requests(manifest.signature, [candidates])
                expected = predict(manifest.columns_of(batch))
                np.testing.assert_array_equal(client.rank(batch[0]), expected)

    def test_requests_at_once_each_get_their_own_scores(self, name, artifacts, server):
        manifest, predict = artifacts[name].manifest, open_predictor(artifacts[name], threads=1)
        batches = [sample_requests(manifest.signature, [size]) for size in range(1, 33)]
        with (
            RankerClient(server.grpc_url, name, timeout_s=60) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            answers = list(pool.map(lambda each: client.rank(each[0]), batches))
        for batch, scores in zip(batches, answers, strict=True):
            expected = predict(manifest.columns_of(batch))
            np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)
