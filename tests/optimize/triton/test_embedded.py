from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from served_counts import executions_of
from tiny_ranker import make_artifact, make_request

from client import InvalidRequest, RankerClient
from optimize.runtimes import open_predictor
from optimize.triton.config import ServingOptions
from optimize.triton.embedded import ServerError, serve
from optimize.triton.repository import deploy
from rankers.errors import UserError

pytestmark = pytest.mark.end_to_end


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


class TestARunningServer:
    def test_serves_the_models_that_load_and_says_why_another_does_not(self, tiny_server):
        assert tiny_server.models == ("tiny", "tiny_openvino")
        (reason,) = tiny_server.failed.values()
        assert "damaged/1/model.onnx: its SHA-256 is not the manifest's" in reason
        assert "\n" not in reason

    def test_serves_openvino_with_the_scores_that_it_gives_in_process(
        self, tiny_server, tiny_openvino
    ):
        random, predict = np.random.default_rng(3), open_predictor(tiny_openvino, threads=1)
        with RankerClient(tiny_server.grpc_url, "tiny_openvino") as client:
            for candidates in (1, 2, 37, 200):
                request = make_request(random, candidates)
                expected = predict(tiny_openvino.manifest.columns_of(request))
                np.testing.assert_array_equal(client.rank(request), expected)

    def test_listens_on_loopback_only(self, tiny_server):
        addresses = {
            each.laddr[0]
            for each in psutil.Process(tiny_server.pid).net_connections("tcp")
            if each.status == psutil.CONN_LISTEN
        }
        assert {each.removeprefix("::ffff:") for each in addresses} == {"127.0.0.1"}

    def test_answers_http_and_metrics_at_the_stated_places(self, tiny_server):
        assert get(f"{tiny_server.http_url}/v2/models/tiny/ready") == b""
        assert b'nv_inference_request_success{model="tiny"' in get(tiny_server.metrics_url)

    def test_writes_its_log(self, tiny_server):
        assert "successfully loaded 'tiny'" in tiny_server.log_file.read_text()


def get(url):
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - a URL of the server under test
        return answer.read()


@pytest.fixture(scope="module")
def joining(tmp_path_factory, start_server):
    """Serve a ranker that is slow enough for requests to queue."""
    folder = tmp_path_factory.mktemp("joining")
    artifact = make_artifact(folder / "artifact", hidden=1024)
    options = ServingOptions(instances=2, max_queue_delay_us=20_000)
    deploy(artifact, folder / "models", "wide", options=options)
    with (
        start_server(folder / "models") as server,
        RankerClient(server.grpc_url, "wide", timeout_s=60) as client,
    ):
        yield client, open_predictor(artifact, threads=1)


class TestRequestsAtOnce:
    def test_of_different_lengths_are_joined_and_each_gets_its_own_scores(self, joining):
        client, predictor = joining
        random = np.random.default_rng(0)
        requests = [make_request(random, int(n)) for n in random.integers(1, 400, 64)]
        answers = []

        def ask():
            with ThreadPoolExecutor(16) as pool:
                answers.extend(pool.map(client.rank, requests))

        executed = executions_of(64, ask, client=client, model="wide")
        assert executed < 48, "requests were not joined"
        for request, scores in zip(requests, answers, strict=True):
            np.testing.assert_allclose(scores, predictor(request.flat()), rtol=0, atol=1e-6)

    def test_that_are_wrong_get_their_own_error_and_do_not_harm_the_others(self, joining):
        client, predictor = joining
        random = np.random.default_rng(1)
        served = client._described()
        messages, requests = [], [make_request(random, int(n)) for n in range(1, 49)]
        for place, request in enumerate(requests):
            message = served.message(request, 60.0)
            if place % 4 == 0:  # an ID that the client would not have let through
                ids = request.items["item_id"].copy()
                ids[-1] = 100 + place
                message.raw_input_contents[2] = ids.tobytes()
            elif place % 4 == 1:
                bad = np.full((1, 4), np.nan, np.float32)
                message.raw_input_contents[1] = bad.tobytes()
            messages.append(message)
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda each: outcome(client, each), messages))
        for place, (request, answer) in enumerate(zip(requests, answers, strict=True)):
            if place % 4 == 0:
                assert f"'item_id' holds the ID {100 + place} in row {place}" in answer
            elif place % 4 == 1:
                assert "'context' holds a value that is not finite" in answer
            else:
                scores = served.scores(answer, request.candidates)
                np.testing.assert_allclose(scores, predictor(request.flat()), rtol=0, atol=1e-6)


def outcome(client, message):
    import grpc

    try:
        return client._fleet.endpoints[0].stub.ModelInfer(message, timeout=60)
    except grpc.RpcError as error:
        return error.details()


class TestReload:
    def test_under_load_loses_no_request_and_brings_the_new_scores(
        self, tmp_path, start_server, tiny_artifact
    ):
        newer = make_artifact(tmp_path / "newer", seed=1)
        repository = tmp_path / "models"
        deploy(tiny_artifact, repository, "tiny")
        request = make_request(np.random.default_rng(0), 50)
        old, new = (
            open_predictor(each, threads=1)(request.flat()) for each in (tiny_artifact, newer)
        )
        answers, stop = [], threading.Event()

        def ask():
            while not stop.is_set():
                answers.append(client.rank(request))

        def until_more_are_answered():
            enough = len(answers) + 20  # four of them were under way already
            while len(answers) < enough and not any(each.done() for each in asking):
                time.sleep(0.01)

        with (
            start_server(repository) as server,
            RankerClient(server.grpc_url, "tiny", timeout_s=60) as client,
            ThreadPoolExecutor(4) as pool,
        ):
            asking = [pool.submit(ask) for _ in range(4)]
            try:
                for artifact in (newer, tiny_artifact, newer):
                    until_more_are_answered()
                    deploy(artifact, repository, "tiny")
                    server.reload("tiny")
                until_more_are_answered()
            finally:
                stop.set()
            for each in asking:
                each.result()
            np.testing.assert_array_equal(client.rank(request), new)
        kinds = [
            (np.allclose(each, old, atol=1e-6), np.allclose(each, new, atol=1e-6))
            for each in answers
        ]
        assert all(any(each) for each in kinds)
        assert {(True, False), (False, True)} == set(kinds)

    def test_of_a_damaged_version_leaves_the_old_one_serving(
        self, tmp_path, start_server, tiny_artifact, tiny_predictor
    ):
        repository = tmp_path / "models"
        deploy(tiny_artifact, repository, "tiny")
        request = make_request(np.random.default_rng(0), 50)
        with (
            start_server(repository) as server,
            RankerClient(server.grpc_url, "tiny", timeout_s=60) as client,
        ):
            client.rank(request)
            damage(
                deploy(make_artifact(tmp_path / "b", seed=1), repository, "tiny").folder
                / "model.onnx"
            )
            with pytest.raises(
                ServerError, match=r"'tiny' will not load: .*2/model\.onnx: its SHA"
            ):
                server.reload("tiny")
            np.testing.assert_array_equal(client.rank(request), tiny_predictor(request.flat()))


class TestRefusals:
    def serve(self, repository, **ports):
        ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0} | ports
        return serve(repository, log_file=repository.parent / "log", **ports)

    @pytest.mark.parametrize("which", ["grpc_port", "http_port", "metrics_port"])
    def test_an_occupied_port_is_named_with_its_occupant(self, tiny_artifact, tmp_path, which):
        deploy(tiny_artifact, tmp_path / "models", "tiny")
        with socket.create_server(("127.0.0.1", 0)) as occupant:
            port = occupant.getsockname()[1]
            said = rf"port {port} on 127\.0\.0\.1 is taken by .*\(process {os.getpid()}\): choose"
            with (
                pytest.raises(UserError, match=said),
                self.serve(tmp_path / "models", **{which: port}),
            ):
                pass

    def test_a_missing_and_an_empty_repository_are_told_apart(self, tmp_path):
        with pytest.raises(UserError, match="no model repository here"), self.serve(tmp_path / "a"):
            pass
        (tmp_path / "b").mkdir()
        with (
            pytest.raises(UserError, match="no model is deployed here"),
            self.serve(tmp_path / "b"),
        ):
            pass

    def test_a_repository_of_damaged_models_only_says_what_is_damaged(
        self, tiny_artifact, tmp_path
    ):
        damage(deploy(tiny_artifact, tmp_path / "models", "tiny").folder / "model.onnx")
        with (
            pytest.raises(
                ServerError, match=r"'tiny' will not load: .*tiny/1/model\.onnx: its SHA"
            ),
            self.serve(tmp_path / "models"),
        ):
            pass


_SERVE = """
import signal, sys
from pathlib import Path
from optimize.triton.embedded import serve
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
folder = Path(sys.argv[1])
try:
    with serve(folder / "models", grpc_port=0, http_port=0, metrics_port=0,
               log_file=folder / "log") as server:
        print(server.pid, flush=True)
        server.wait()
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_whatever_ends_the_owner_no_process_and_no_shared_memory_is_left(
    tiny_artifact, tmp_path, how
):
    deploy(tiny_artifact, tmp_path / "models", "tiny")
    owner = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    pid = int(owner.stdout.readline())
    server = psutil.Process(pid)
    family = [server, server.parent(), *server.children(recursive=True)]
    assert len(family) >= 4, "the server, its supervisor and a stub for each instance"
    (prefix,) = {
        part.split("=")[-1] for part in server.cmdline() if "shm-region-prefix-name" in part
    }
    assert regions(prefix)

    owner.send_signal(how)
    owner.wait(240)
    owner.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=240)
    assert not alive
    assert not regions(prefix)


@pytest.mark.parametrize("whom", ["server", "supervisor"])
def test_a_kill_of_the_server_or_its_supervisor_leaves_nothing_behind(
    tiny_artifact, tmp_path, start_server, whom
):
    deploy(tiny_artifact, tmp_path / "models", "tiny")
    with start_server(tmp_path / "models") as running:
        server = psutil.Process(running.pid)
        family = [server, server.parent(), *server.children(recursive=True)]
        (prefix,) = {
            part.split("=")[-1] for part in server.cmdline() if "shm-region-prefix-name" in part
        }
        (server if whom == "server" else server.parent()).kill()
        running.wait()
    _, alive = psutil.wait_procs(family, timeout=240)
    assert not alive
    assert not regions(prefix)


def regions(prefix):
    return list(Path("/dev/shm").glob(f"{prefix}*"))  # noqa: S108 - where shm_open puts regions


def test_a_request_the_client_lets_through_is_judged_by_the_server(tiny_server):
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        served = client._described()
        served.max_candidates = 10_000
        with pytest.raises(InvalidRequest, match="2001 candidates; this model answers 2000"):
            client._ask(served, [make_request(np.random.default_rng(0), 2001)], 30.0, 1)
