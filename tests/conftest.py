"""One real Triton server for all tests that only ask it, and the order of files."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

# For tiny_ranker.py and example_rankers.py. Not a folder further down: with tests/optimize on the
# path, PyTorch takes tests/optimize/triton for the compiler of that name.
sys.path.insert(0, str(Path(__file__).parent))


def pytest_collection_modifyitems(items):
    """Begin with the files of whole commands, which take longest: no worker waits for one alone."""
    first = {each.path for each in items if each.get_closest_marker("end_to_end")}
    items.sort(key=lambda each: each.path not in first)


@pytest.fixture(scope="session")
def tiny_artifact(tmp_path_factory):
    from tiny_ranker import make_artifact

    return make_artifact(tmp_path_factory.mktemp("tiny") / "artifact")


@pytest.fixture(scope="session")
def start_server():
    """Serve a repository on free ports: ``with start_server(repository) as server``."""
    from optimize.triton.embedded import serve

    @contextmanager
    def start(repository, **options):
        ports = {"grpc_port": 0, "http_port": 0, "metrics_port": 0}
        log_file = repository.parent / "triton.log"
        with serve(repository, **ports | {"log_file": log_file} | options) as server:
            yield server

    return start


@pytest.fixture(scope="session")
def standing_still():
    """Keep a server from answering, however fast it is: ``with standing_still(server)``."""

    def stopped(pid):
        tasks = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(each.read_text().rpartition(")")[2].split()[0] == "T" for each in tasks)

    @contextmanager
    def stand_still(server):
        os.kill(server.pid, signal.SIGSTOP)
        try:
            while not stopped(server.pid):
                time.sleep(0.001)
            yield
        finally:
            os.kill(server.pid, signal.SIGCONT)

    return stand_still


@pytest.fixture(scope="session")
def tiny_openvino(tiny_artifact, tmp_path_factory):
    from optimize.build import run_stage

    return run_stage("export_openvino", {}, tiny_artifact, tmp_path_factory.mktemp("openvino"))


@pytest.fixture(scope="session")
def tiny_server(tiny_artifact, tiny_openvino, start_server, tmp_path_factory):
    """Serve the tiny ranker as ``tiny`` and ``tiny_openvino``, and one damaged after deploying."""
    from optimize.triton.config import ServingOptions
    from optimize.triton.repository import deploy

    repository = tmp_path_factory.mktemp("served") / "models"
    # On a busy machine a request may wait for long, and none of these tests is about that.
    patient = ServingOptions(max_candidates=2000, queue_timeout_ms=30_000)
    deploy(tiny_artifact, repository, "tiny", options=patient)
    deploy(tiny_openvino, repository, "tiny_openvino", options=patient)
    damaged = deploy(tiny_artifact, repository, "damaged").folder / "model.onnx"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with start_server(repository) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_predictor(tiny_artifact):
    """Return the tiny ranker in this process, with the threads of one served instance."""
    from optimize.runtimes import open_predictor

    return open_predictor(tiny_artifact, threads=1)
