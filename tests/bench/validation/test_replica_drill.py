"""The drill's load sees what is wrong; the committed drill found nothing wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_ranker import make_request

from bench.validation.checked_load import Load
from bench.validation.replica_drill import main
from bench.validation.timed_server import MODEL, timed_requests, write_timed_model
from client import RankerClient
from optimize.triton.embedded import serve

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


@pytest.mark.end_to_end
def test_a_timed_model_answers_what_it_was_sent_and_so_does_its_next_version(tmp_path):
    requests, scores = timed_requests(2)
    models, log_file = tmp_path / "models", tmp_path / "triton.log"
    write_timed_model(models, 1, 0.001)
    with serve(models, log_file=log_file, grpc_port=0, http_port=0, metrics_port=0) as server:
        for version in (1, 2):
            with RankerClient(server.grpc_url, MODEL, timeout_s=30) as client:
                for request, expected in zip(requests, scores, strict=True):
                    np.testing.assert_array_equal(client.rank(request), expected)
            names = sorted(each.name for each in (models / MODEL).glob("[0-9]*"))
            assert names == [str(each + 1) for each in range(version)]
            write_timed_model(models, 1, 0.001)
            server.reload(MODEL)


def test_an_artifact_without_requests_is_one_line(tmp_path):
    ran = CliRunner().invoke(main, [str(tmp_path)])
    assert ran.exit_code == 2
    assert "name both, or neither" in ran.output


def test_the_committed_drill_lost_nothing_within_its_budget_of_extra_load():
    result = json.loads((RESULTS / "replica-drill.json").read_text())
    assert len(result["phases"]) == 6
    for each in result["phases"]:
        assert (each["failed"], each["wrong"]) == (0, 0), each["phase"]
        assert each["requests"] > 1000
        extra = each["counts"]["calls"] - each["counts"]["requests"]
        assert extra <= 0.1 * each["counts"]["requests"] + 10
    normal, stopped = result["phases"][0], result["phases"][2]
    assert stopped["phase"] == "SIGSTOP for 5 s"
    assert stopped["p99_ms"] <= 3 * normal["p99_ms"]
