"""A deployment for Triton's ONNX Runtime backend, in the real server as far as that goes."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import pytest
from served_counts import executions_of
from tiny_ranker import make_artifact, make_request

from client import RankerClient
from client.channel import open_channel
from optimize.runtimes import open_predictor
from optimize.triton.config import CONFIG, ServingOptions, config_text, read_config
from optimize.triton.embedded import ServerError
from optimize.triton.repository import deploy

pytestmark = pytest.mark.end_to_end

STAND_IN = Path(__file__).with_name("native_stand_in.py")


def test_the_embedded_server_takes_the_config_and_lacks_nothing_but_the_backend(
    tmp_path, start_server, tiny_artifact
):
    repository = tmp_path / "models"
    deploy(tiny_artifact, repository, "good", options=ServingOptions(backend="onnxruntime"))
    # The server looks at the config first: one that it would refuse is refused for that.
    deploy(tiny_artifact, repository, "wrong", options=ServingOptions(backend="onnxruntime"))
    path = repository / "wrong" / CONFIG
    config = read_config(path.read_text(), path)
    config.dynamic_batching.preferred_batch_size.append(config.max_batch_size + 1)
    path.write_text(config_text(config))
    with (
        pytest.raises(ServerError, match="unable to find backend library for backend 'onnxrunt"),
        start_server(repository),
    ):
        pass
    log = (repository.parent / "triton.log").read_text()
    assert "dynamic batching preferred size must be <= max batch size for wrong" in log


@pytest.fixture(scope="module")
def served(tmp_path_factory, start_server):
    """Serve a slow ranker with the config that was deployed, behind the stand-in."""
    folder = tmp_path_factory.mktemp("native")
    artifact = make_artifact(folder / "artifact", hidden=1024)
    options = ServingOptions(
        backend="onnxruntime",
        instances=2,
        max_queue_delay_us=20_000,
        queue_size=48,
        queue_timeout_ms=60_000,
    )
    deployed = deploy(artifact, folder / "models", "wide", options=options)
    shutil.copyfile(STAND_IN, deployed.folder / "model.py")
    path = folder / "models" / "wide" / CONFIG
    config = read_config(path.read_text(), path)
    assert config.backend == "onnxruntime"
    config.backend = "python"
    path.write_text(config_text(config))
    with (
        start_server(folder / "models") as server,
        RankerClient(server.grpc_url, "wide", timeout_s=60) as client,
    ):
        yield client, open_predictor(artifact, threads=1)


@pytest.mark.parametrize("candidates", [1, 2, 37, 700])
def test_a_client_gets_the_scores_of_the_flat_graph(served, candidates):
    client, predictor = served
    request = make_request(np.random.default_rng(candidates), candidates)
    np.testing.assert_array_equal(client.rank(request), predictor(request.flat()))


def test_requests_of_one_size_are_joined_and_others_are_not(served):
    client, predictor = served
    random = np.random.default_rng(0)

    def ask(sizes):
        requests = [make_request(random, size) for size in sizes]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(client.rank, requests))
        for request, scores in zip(requests, answers, strict=True):
            np.testing.assert_allclose(scores, predictor(request.flat()), rtol=0, atol=1e-6)

    alike, different = partial(ask, [200] * 32), partial(ask, range(1, 33))
    assert executions_of(32, alike, client=client, model="wide") < 24
    assert executions_of(32, different, client=client, model="wide") == 32


def test_the_queue_is_bounded(served):
    client, _ = served
    message = client._described().message(make_request(np.random.default_rng(0), 4000), 60.0)
    channel, stub = open_channel(client.url)
    with channel:
        calls = [stub.ModelInfer.future(message, timeout=60) for _ in range(200)]
        refused = [str(call.exception().details()) for call in calls if call.exception()]
    assert refused
    assert all("exceeds maximum queue size" in each.lower() for each in refused), refused[0]
    assert len(refused) < len(calls)


def test_tensors_of_different_sizes_are_an_error_and_the_server_lives_on(served):
    client, predictor = served
    request = make_request(np.random.default_rng(0), 3)
    message = client._described().message(request, 30.0)
    message.inputs[3].shape[1] = 1
    message.raw_input_contents[3] = message.raw_input_contents[3][:8]
    with pytest.raises(grpc.RpcError, match="Reshape"):
        client._fleet.endpoints[0].stub.ModelInfer(message, timeout=30)
    np.testing.assert_array_equal(client.rank(request), predictor(request.flat()))
