from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner
from tiny_ranker import make_request

from client.cli import main

pytestmark = pytest.mark.end_to_end


def run(*args, **options):
    return CliRunner().invoke(main, [str(each) for each in args], **options)


@pytest.fixture
def request_and_json():
    request = make_request(np.random.default_rng(3), 5)
    given = {
        "user": {name: column[0].tolist() for name, column in request.user.items()},
        "items": {name: column.tolist() for name, column in request.items.items()},
    }
    return request, json.dumps(given)


class TestPing:
    def test_tells_a_server_whose_models_are_not_all_ready(self, tiny_server):
        done = run("ping", tiny_server.grpc_url, "--json")
        assert done.exit_code == 1  # one is damaged
        said = json.loads(done.stdout)
        assert said["ready"] is False
        assert said["version"].startswith("2.")
        assert "not ready, triton 2." in run("ping", tiny_server.grpc_url).stdout

    def test_says_in_a_line_where_there_is_none(self):
        done = run("ping", "127.0.0.1:1")
        assert done.exit_code == 2
        assert done.stderr.startswith("error: no server answers at 127.0.0.1:1")
        assert done.stderr.count("\n") == 1


def test_models_lists_each_with_why_it_is_not_ready(tiny_server):
    done = run("models", tiny_server.grpc_url, "--json")
    assert done.exit_code == 1  # one is damaged
    found = {each["name"]: each for each in json.loads(done.stdout)["models"]}
    assert found["tiny"]["state"] == "READY"
    assert "SHA-256" in found["damaged"]["reason"]
    lines = run("models", tiny_server.grpc_url).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["damaged", "tiny", "tiny_openvino"]


class TestRank:
    def test_prints_the_scores_of_a_request_in_its_order(
        self, tiny_server, tiny_predictor, tmp_path, request_and_json
    ):
        request, text = request_and_json
        (tmp_path / "request.json").write_text(text)
        done = run("rank", tiny_server.grpc_url, "tiny", tmp_path / "request.json", "--json")
        assert done.exit_code == 0, done.output
        scores = json.loads(done.stdout)["scores"]
        assert [each["candidate"] for each in scores] == [0, 1, 2, 3, 4]
        expected = tiny_predictor(request.flat())
        np.testing.assert_array_equal(np.float32([each["score"] for each in scores]), expected)

    def test_prints_the_best_first_of_standard_input(
        self, tiny_server, tiny_predictor, request_and_json
    ):
        request, text = request_and_json
        done = run("rank", tiny_server.grpc_url, "tiny", "-", "--top", 2, input=text)
        assert done.exit_code == 0, done.output
        places = [int(line.split()[0]) for line in done.stdout.splitlines()]
        assert places == np.argsort(-tiny_predictor(request.flat()))[:2].tolist()

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", "cannot be read as a JSON request"),
            ("[]", 'has no "user"; expected'),
            ('{"user": {}}', 'has no "items"; expected'),
            ('{"user": {}, "items": {"price": [1]}}', "item feature 'item_id' is missing"),
        ],
    )
    def test_says_in_a_line_what_is_wrong_with_a_request(self, tiny_server, text, said):
        done = run("rank", tiny_server.grpc_url, "tiny", "-", input=text)
        assert done.exit_code == 2
        assert said in done.stderr
        assert done.stderr.count("\n") == 1
