"""Where the time of served requests goes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_ranker import SIGNATURE

from bench.attribution import Split, _by_request, _Moments, _split, attribution_table
from bench.attribution import trace_requests as trace
from bench.cli import main
from bench.measure import Load
from bench.workload import make_workload
from bench.workload_recipe import load_recipe
from rankers.errors import UserError


@pytest.fixture(scope="module")
def tracing_server(tiny_artifact, start_server, tmp_path_factory):
    from optimize.triton.config import ServingOptions
    from optimize.triton.repository import deploy

    folder = tmp_path_factory.mktemp("traced")
    options = ServingOptions(max_candidates=2000, queue_timeout_ms=30_000)
    deploy(tiny_artifact, folder / "models", "tiny", options=options)
    with start_server(folder / "models", trace_file=folder / "trace.json") as server:
        yield server, folder / "trace.json"


@pytest.mark.end_to_end
class TestAServer:
    workload = make_workload(load_recipe("interactive"), SIGNATURE)

    def test_has_every_request_split(self, tracing_server):
        server, _ = tracing_server
        load = Load(count=450, concurrency=3, warmup=0)  # two files of traces and a rest
        splits = trace(server.grpc_url, "tiny", self.workload, load)
        assert len(splits) == 450
        assert all(each.compute_us > 0 and each.client_us > 0 for each in splits)
        # The server's part fits into what the client waited: the join is of the same requests.
        assert np.mean([each.network_us > 0 for each in splits]) > 0.99

    def test_more_callers_than_instances_wait_in_the_queue(self, tracing_server):
        server, _ = tracing_server
        alone, crowd = (
            trace(server.grpc_url, "tiny", self.workload, Load(count=200, concurrency=c, warmup=0))
            for c in (1, 16)
        )
        # Of the crowd those who waited: on a busy machine most callers get no core to send from.
        waited = np.quantile([each.queue_us for each in crowd], 0.9)
        assert waited > np.median([each.queue_us for each in alone])

    def test_is_no_longer_traced_afterwards(self, tracing_server):
        server, file = tracing_server
        load = Load(count=20, warmup=0)
        trace(server.grpc_url, "tiny", self.workload, load)

        def files():
            return {each: each.stat().st_size for each in file.parent.glob("trace.json*")}

        before = files()
        done = CliRunner().invoke(
            main,
            ["run", f"grpc://{server.grpc_url}/tiny", "--workload", "feed", "--count", "300"],
        )
        assert done.exit_code == 0, done.output
        assert files() == before

    def test_table_and_json_are_on_the_command_line(self, tracing_server):
        server, _ = tracing_server
        command = ["run", f"grpc://{server.grpc_url}/tiny", "--workload", "interactive"]
        done = CliRunner().invoke(main, [*command, "--count", "100", "--trace"])
        assert done.exit_code == 0, done.output
        assert "Where the time goes: " in done.stdout
        done = CliRunner().invoke(main, [*command, "--count", "50", "--trace", "--json"])
        assert set(json.loads(done.stdout)["splits"][0]) == set(Split.__slots__)

    def test_without_a_trace_file_is_one_line(self, tiny_server):
        with pytest.raises(UserError, match="--trace-file"):
            trace(tiny_server.grpc_url, "tiny", self.workload, Load(count=5, warmup=0))


def test_a_split_adds_up_to_what_the_client_waited():
    server = {
        "QUEUE_START": 1_000_000, "COMPUTE_START": 3_000_000, "COMPUTE_END": 9_000_000,
        "INFER_RESPONSE_COMPLETE": 8_000_000,
    }  # fmt: skip
    split = _split(_Moments(began=10.0, sent=10.001, answered=10.011, ended=10.0115), server)
    assert split.client_us == pytest.approx(1500)
    assert split.queue_us == pytest.approx(2000)
    assert split.compute_us == pytest.approx(5000)
    assert split.network_us == pytest.approx(3000)
    assert split.total_us == pytest.approx(11_500)


def test_traces_are_found_by_the_requests_own_id():
    entries = [
        {"id": 1, "model_name": "a", "request_id": "x"},
        {"id": 2, "model_name": "a"},
        {"id": 1, "timestamps": [{"name": "QUEUE_START", "ns": 5}]},
        {"id": 2, "timestamps": [{"name": "QUEUE_START", "ns": 7}]},
        {"id": 1, "timestamps": [{"name": "COMPUTE_START", "ns": 9}]},
    ]
    assert _by_request(entries) == {"x": {"QUEUE_START": 5, "COMPUTE_START": 9}}


def test_the_table_names_what_the_slowest_waited_for():
    splits = [Split(100, 200, 10, 600)] * 198 + [Split(100, 200, 9000, 700)] * 2
    table = attribution_table(splits)
    assert table.rows[0][-1].startswith("compute")
    assert table.rows[1][0] == "the slowest 1 % (2)"
    assert table.rows[1][-1] == "queue, 90%"
    assert table.rows[1][1] == "10.0"


def test_tracing_is_of_grpc_targets_only(ranker_file):
    done = CliRunner().invoke(main, ["run", f"{ranker_file}:ranker", "--trace"])
    assert done.exit_code == 2
    assert "--trace is of a grpc:// target" in done.stderr
