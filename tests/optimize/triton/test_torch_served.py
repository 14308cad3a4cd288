"""What rankserve's own runtimes open, served by the embedded server as it scores in process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import example_rankers
import grpc
import numpy as np
import pytest

from client import RankerClient
from optimize.build import run_stage
from optimize.capture import capture
from optimize.runtimes import open_predictor
from optimize.samples import sample_requests
from optimize.triton.config import CONFIG, ServingOptions, config_text, read_config
from optimize.triton.repository import deploy

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def artifacts(store):
    program = capture(example_rankers.tiny(), store, candidates=(1, 37))
    once = run_stage("user_once", {"when": "always"}, program, store)
    buckets = {"sizes": "4,16,64"}
    graph = run_stage("export_onnx", {}, once, store)
    return {
        "program": program,
        "graphs": run_stage("cuda_graphs", buckets, once, store),
        "session": run_stage("onnx_gpu_session", buckets, graph, store),
    }


@pytest.fixture(scope="module")
def server(artifacts, start_server, tmp_path_factory):
    """Serve a program with arrays on the host, and buckets with tensors by DLPack, as on a GPU.

    ``alone`` is the session in buckets as the server opens it on a CPU, without torch.
    """
    repository = tmp_path_factory.mktemp("torch") / "models"
    # Without bounds one instance forgets no request; each takes seconds to import torch.
    options = ServingOptions(queue_size=0, max_queue_delay_us=20_000)
    for name, artifact in (artifacts | {"alone": artifacts["session"]}).items():
        path = deploy(artifact, repository, name, options=options).folder.parent / CONFIG
        config = read_config(path.read_text(), path)
        config.instance_group[0].count = 1
        if name in ("graphs", "session"):
            config.parameters["tensors"].string_value = "dlpack"
        path.write_text(config_text(config))
    with start_server(repository, ready_timeout_s=300) as running:
        assert not running.failed
        yield running


def test_a_session_for_a_gpu_is_served_on_the_cpu_too(artifacts, server):
    artifact = artifacts["session"]
    predict = open_predictor(artifact, threads=1)
    with RankerClient(server.grpc_url, "alone", timeout_s=60) as client:
        for candidates in (1, 37, 200):
            batch = sample_requests(artifact.manifest.signature, [candidates])
            expected = predict(artifact.manifest.columns_of(batch))
            np.testing.assert_allclose(client.rank(batch[0]), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["program", "graphs", "session"])
class TestServed:
    def test_scores_are_those_in_process_bit_by_bit(self, name, artifacts, server):
        manifest, predict = artifacts[name].manifest, open_predictor(artifacts[name], threads=1)
        with RankerClient(server.grpc_url, name, timeout_s=60) as client:
            for candidates in (1, 2, 37, 200):
                batch = sample_requests(manifest.signature, [candidates])
                expected = predict(manifest.columns_of(batch))
                np.testing.assert_array_equal(client.rank(batch[0]), expected)

    def test_requests_at_once_each_get_their_own_scores_or_their_own_error(
        self, name, artifacts, server
    ):
        manifest, predict = artifacts[name].manifest, open_predictor(artifacts[name], threads=1)
        batches = [sample_requests(manifest.signature, [size]) for size in range(1, 33)]
        with (
            RankerClient(server.grpc_url, name, timeout_s=60) as client,
            ThreadPoolExecutor(8) as pool,
        ):
            served = client._described()
            messages = [served.message(each[0], 60.0) for each in batches]
            places = {each.name: place for place, each in enumerate(messages[0].inputs)}
            for place, message in enumerate(messages):  # what the client would not let through
                if place % 4 == 0:
                    ids = np.full((1, place + 1, 1), 100 + place)
                    message.raw_input_contents[places["item_int64"]] = ids.tobytes()
                elif place % 4 == 1:
                    bad = np.full((1, 3), np.nan, np.float32)
                    message.raw_input_contents[places["user_float32"]] = bad.tobytes()
            answers = list(pool.map(lambda each: outcome(client, each), messages))
            for place, (batch, answer) in enumerate(zip(batches, answers, strict=True)):
                if place % 4 == 0:
                    assert f"'item' holds the ID {100 + place} in row 0; IDs run" in answer
                elif place % 4 == 1:
                    assert "'profile' holds a value that is not finite in row 0" in answer
                else:
                    scores = served.scores(answer, place + 1)
                    expected = predict(manifest.columns_of(batch))
                    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def outcome(client, message):
    try:
        return client._fleet.endpoints[0].stub.ModelInfer(message, timeout=60)
    except grpc.RpcError as error:
        return error.details()
