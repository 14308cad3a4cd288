"""A small fuzz of the client; that a fuzz sees what is wrong; that the large one found nothing."""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from tiny_ranker import make_request

from bench.validation import fuzzing
from bench.validation.client_fuzz import MOST_CONNECTIONS, MOST_RSS_MIB, is_steady
from bench.validation.fuzzing import Ends, attempt, scores_in
from bench.validation.hostile_answers import answer, right_scores
from bench.validation.hostile_server import MODEL, hostile_server
from bench.validation.hostile_wire import SAID, hostile_wire
from bench.validation.spoilt_requests import spoil
from bench.validation.steadiness import grown, traced_kib
from client import InvalidRequest, RankerClient

RESULTS = Path(__file__).parents[3] / "bench" / "results" / "validation"


@pytest.fixture(scope="module")
def hostile():
    with hostile_server() as url:
        yield url


def whole(ends, kinds=0):
    assert not ends.wrongs, ends.wrong
    assert len(ends.by_kind) >= kinds
    return ends


@pytest.mark.end_to_end
class TestARealServer:
    @pytest.fixture
    def client(self, tiny_server):
        with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=60) as opened:
            yield opened

    @pytest.fixture
    def good(self):
        random = np.random.default_rng(0)
        return [make_request(random, 20) for _ in range(5)]

    def test_answers_or_refuses_every_spoilt_request(self, client, good):
        expected, ends = [client.rank(each) for each in good], Ends()
        fuzzing.ask_spoilt_requests(client, good, expected, range(400), ends)
        assert whole(ends, kinds=11).total == 400
        assert ends.by_kind["right"]["scores"]
        assert ends.by_kind["oversized"]["scores"]

    def test_answers_or_refuses_every_spoilt_serialized_request(self, client, good):
        ends = Ends()
        fuzzing.send_spoilt_bytes(client, good, range(300), ends)
        assert whole(ends).by_kind["no request"].total() > 200
        assert len(client.rank(good[0])) == 20


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_spoilt_answer_is_refused_and_a_right_one_is_not(hostile, replicas):
    ends = Ends()
    with RankerClient([hostile] * replicas, MODEL, timeout_s=60) as client:
        fuzzing.hear_spoilt_answers([client], range(400), ends)
    assert whole(ends, kinds=18).total == 400
    assert ends.by_kind["right"] == {"scores": ends.by_kind["right"].total()}


def test_a_spoilt_description_is_refused_and_a_true_one_is_not(hostile):
    ends = Ends()
    fuzzing.read_spoilt_descriptions(hostile, range(200), ends)
    assert whole(ends, kinds=12).total == 200
    assert ends.by_kind["right"]["scores"]


def test_what_is_no_server_is_said_to_be_none():
    ends, before = Ends(), threading.active_count()
    with hostile_wire() as url:
        fuzzing.meet_no_server(url, range(len(SAID)), ends)
    assert whole(ends).total == len(SAID)
    assert set(ends.by_kind["no server"]) <= {"ServerUnreachable", "ModelFailed"}
    assert threading.active_count() <= before + len(SAID)  # those that talk end by themselves


class TestTheFuzz:
    @pytest.mark.parametrize(
        ("end", "expected", "named", "said"),
        [
            (np.zeros(3), np.ones(3), (), "got scores"),
            (np.zeros(2), np.zeros(3), (), "got scores"),
            (np.zeros(3), None, ("x",), "got scores"),
            (InvalidRequest("no"), np.zeros(3), (), "was refused"),
            (InvalidRequest("no"), None, ("x",), "names none of"),
            (InvalidRequest(""), None, (), "is no line"),
            (KeyError("x"), None, ("x",), "raised KeyError"),
        ],
    )
    def test_counts_an_end_that_is_wrong(self, end, expected, named, said):
        def ask():
            if isinstance(end, Exception):
                raise end
            return end

        ends = Ends()
        attempt(ends, "some", ask, expected=expected, named=named)
        assert ends.wrongs == 1
        assert said in ends.wrong[0]

    def test_knows_a_right_answer_and_a_wrong_one(self):
        said = {answer(seed, 3).kind: answer(seed, 3) for seed in range(400)}
        seed = next(seed for seed in range(400) if answer(seed, 3).kind == "right")
        np.testing.assert_array_equal(scores_in(answer(seed, 3).body, 3), right_scores(seed, 3))
        for kind in ("name", "datatype", "shape", "no outputs", "twice", "length", "value"):
            assert scores_in(said[kind].body, 3) is None, kind

    def test_spoils_a_request_the_same_way_by_the_same_seed(self):
        from tiny_ranker import SIGNATURE

        request = make_request(np.random.default_rng(0), 4)
        before = request.items["item_id"].copy()
        asked = [spoil(request, SIGNATURE, seed) for seed in range(60)]
        assert [each.kind for each in asked] == [
            spoil(request, SIGNATURE, seed).kind for seed in range(60)
        ]
        np.testing.assert_array_equal(request.items["item_id"], before)

    def test_sees_a_process_grow(self):
        kept = []
        with ExitStack() as stack:
            found = grown(lambda: stack.enter_context(Path("/dev/null").open()), 200)
        assert 150 < found["files"] < 250  # others close some just now
        kib = traced_kib(lambda: kept.append(bytes(10_000)), 20)
        assert 190 < kib < 300

    @pytest.mark.parametrize(
        ("change", "steady"),
        [
            ({}, True),
            ({"rss_mib": 100 + 2 * MOST_RSS_MIB}, False),
            ({"threads": 9}, False),
            ({"files": 5 + MOST_CONNECTIONS}, True),
            ({"files": 6 + MOST_CONNECTIONS}, False),
        ],
    )
    def test_says_so_when_it_grew(self, change, steady):
        held = {"rss_mib": 100, "threads": 3, "files": 5}
        still = {"rss_second_half_mib": 0.0, "threads": 0, "files": 0}
        found = {
            "calls": [held] * 9 + [held | change],
            "traced_kib": 0.0,
            "clients": still,
            "async_clients": still,
        }
        assert is_steady(found) == steady
        assert not is_steady(found | {"clients": still | {"threads": 1}})
        assert not is_steady(found | {"traced_kib": 1e4})


def test_the_committed_fuzz_ended_rightly_a_hundred_thousand_times_and_grew_by_nothing():
    result = json.loads((RESULTS / "client-fuzz.json").read_text())
    phases = result["phases"].values()
    assert sum(each["calls"] for each in phases) == 100_000
    assert sum(each["ended_wrongly"] for each in phases) == 0
    assert result["server_alive_and_right"]
    assert result["steady"]["clients"]["times"] == 1_000
    assert result["steady"]["async_clients"]["times"] == 1_000
    assert is_steady(result["steady"])
