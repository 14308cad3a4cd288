from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue

import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_artifact, make_request

from client import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    RankClientError,
    RankerClient,
    ServerOverloaded,
    ServerUnreachable,
)
from client.packing import Packing
from rankers.features import Signature
from rankers.requests import RankingRequest, RequestError

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def client(tiny_server):
    # Long enough for a machine that is busy with other things.
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as opened:
        yield opened


@pytest.fixture
def random():
    return np.random.default_rng(7)


class TestScores:
    @pytest.mark.parametrize("candidates", [1, 2, 3, 20, 333, 2000])
    def test_are_those_of_the_same_artifact_in_process(
        self, client, tiny_predictor, random, candidates
    ):
        request = make_request(random, candidates)
        scores = client.rank(request)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, tiny_predictor(request.flat()))

    def test_of_more_candidates_than_the_model_answers_are_those_of_all(
        self, client, tiny_predictor, random
    ):
        request = make_request(random, 6001)  # the model answers 2,000
        before = client.counts()["calls"]
        scores = client.rank(request)
        assert client.counts()["calls"] - before == 4
        np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)

    def test_of_many_requests_come_in_their_order(self, client, tiny_predictor, random):
        requests = [make_request(random, int(n)) for n in random.integers(1, 3000, 40)]
        answers = client.rank_many(requests, at_once=5)
        for request, scores in zip(requests, answers, strict=True):
            np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)

    def test_of_no_requests_are_none(self, client):
        assert client.rank_many([]) == []

    def test_of_the_best_k_come_best_first(self, client, random):
        request = make_request(random, 50)
        scores = client.rank(request)
        places, best = client.top_k(request, 5)
        np.testing.assert_array_equal(best, np.sort(scores)[::-1][:5])
        np.testing.assert_array_equal(scores[places], best)

    def test_of_fewer_candidates_than_k_are_all_there(self, client, random):
        places, _ = client.top_k(make_request(random, 3), 10)
        assert sorted(places) == [0, 1, 2]

    def test_are_the_callers_to_change(self, client, random):
        client.rank(make_request(random, 4))[0] = 1.0

    def test_of_columns_that_are_not_contiguous_are_right(self, client, tiny_predictor, random):
        request = make_request(random, 40)
        items = {name: column[::2] for name, column in request.items.items()}
        thinned = replace(request, items=items)
        np.testing.assert_array_equal(client.rank(thinned), tiny_predictor(thinned.flat()))

    def test_asked_for_by_many_threads_are_each_their_own(self, client, tiny_predictor, random):
        requests = [make_request(random, int(n)) for n in random.integers(1, 200, 200)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(client.rank, requests))
        for request, scores in zip(requests, answers, strict=True):
            np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)


def test_the_signature_is_read_from_the_server(client):
    assert client.signature == SIGNATURE


class TestARequestThatDoesNotFit:
    @pytest.mark.parametrize(
        ("side", "name", "column", "said"),
        [
            ("user", "user_id", np.array([50]), "'user_id' holds the ID 50 in row 0"),
            ("items", "item_id", np.array([1, -1, 1]), "'item_id' holds the ID -1 in row 1"),
            ("items", "item_id", np.ones(3, np.int32), "'item_id' has dtype int32; expected int64"),
            ("items", "item_id", np.ones((3, 1), np.int64), r"'item_id' has shape \(3, 1\)"),
            ("items", "price", np.ones((2, 2), np.float32), "'price' has shape"),
            ("items", "price", np.full((3, 2), np.inf, np.float32), "'price' holds a value that"),
            ("user", "context", np.full((1, 4), np.nan, np.float32), "'context' holds a value"),
            ("user", "contxt", np.ones(1), "unknown user feature 'contxt'; did you mean 'context'"),
            ("user", "history", None, "user feature 'history' is missing"),
        ],
    )
    def test_is_refused_before_it_is_sent_naming_the_feature(
        self, client, random, *, side, name, column, said
    ):
        request = make_request(random, 3)
        columns = getattr(request, side)
        if column is None:
            del columns[name]
        else:
            columns[name] = column
        with pytest.raises(InvalidRequest, match=said):
            client.rank(request)

    def test_for_want_of_candidates_is_refused(self, client, random):
        with pytest.raises(InvalidRequest, match="no candidates"):
            client.rank(make_request(random, 0))

    @pytest.mark.parametrize(
        ("request_", "said"),
        [
            (None, "got a NoneType as a request; expected a RankingRequest"),
            ({"item_id": [1]}, "got a dict as a request"),
            (RankingRequest(user=None, items={}), "the user features are a NoneType"),
        ],
    )
    def test_for_being_none_is_refused(self, client, request_, said):
        with pytest.raises(InvalidRequest, match=said):
            client.rank(request_)

    @pytest.mark.parametrize("column", [[1, 2, 3], None, np.array(5), "text"])
    def test_for_columns_that_are_no_arrays_is_refused(self, client, random, column):
        request = make_request(random, 3)
        request.items["item_id"] = column
        with pytest.raises(InvalidRequest, match=r"item feature 'item_id' is .*expected an array"):
            client.rank(request)

    def test_for_no_calls_at_once_is_refused(self, client, random):
        with pytest.raises(InvalidRequest, match="at_once is 0"):
            client.rank_many([make_request(random, 3)], at_once=0)

    def test_for_a_k_of_zero_is_refused(self, client, random):
        with pytest.raises(InvalidRequest, match="k is 0"):
            client.top_k(make_request(random, 3), 0)


def test_a_score_that_is_not_a_number_is_an_error_and_not_an_answer(client, random):
    request = make_request(random, 3)
    request.items["price"][1, 0] = -1.0
    with pytest.raises(ModelFailed, match="score of candidate 1 is nan"):
        client.rank(request)


class TestAServerThatCannotAnswer:
    def test_is_unreachable_where_nothing_listens(self, random):
        with (
            RankerClient("127.0.0.1:1", "tiny") as client,
            pytest.raises(ServerUnreachable, match=r"no server answers at 127.0.0.1:1: start one"),
        ):
            client.rank(make_request(random, 3))

    def test_names_the_nearest_model(self, tiny_server, random):
        with (
            RankerClient(tiny_server.grpc_url, "tinny") as client,
            pytest.raises(ModelNotFound, match=r"no model 'tinny' at .*did you mean 'tiny'"),
        ):
            client.rank(make_request(random, 3))

    def test_says_why_a_model_is_not_ready(self, tiny_server, random):
        with (
            RankerClient(tiny_server.grpc_url, "damaged") as client,
            pytest.raises(ModelNotReady, match=r"model\.onnx: its SHA-256") as caught,
        ):
            client.rank(make_request(random, 3))
        assert "\n" not in str(caught.value)


def test_every_error_is_a_rank_client_error():
    for kind in (
        DeadlineExceeded,
        InvalidRequest,
        ModelFailed,
        ModelNotFound,
        ModelNotReady,
        ServerOverloaded,
        ServerUnreachable,
    ):
        assert issubclass(kind, RankClientError)


@pytest.fixture(scope="module")
def slow_server(start_server, tmp_path_factory):
    """Serve a model that needs milliseconds, in a queue of two."""
    from optimize.triton.config import ServingOptions
    from optimize.triton.repository import deploy

    folder = tmp_path_factory.mktemp("slow")
    slow = make_artifact(folder / "slow", hidden=4096)
    options = ServingOptions(instances=2, max_batch_size=1, queue_size=2, queue_timeout_ms=60_000)
    deploy(slow, folder / "models", "slow", options=options)
    with start_server(folder / "models") as server:
        yield server


def test_an_overloaded_model_refuses_at_once_and_answers_the_others(
    slow_server, standing_still, random
):
    request = make_request(random, 3000)

    def ask(_):
        try:
            return client.rank(request)
        except ServerOverloaded as error:
            return error

    with (
        RankerClient(slow_server.grpc_url, "slow", timeout_s=60) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        client.rank(request)
        calls = client._fleet.endpoints[0].calls
        with standing_still(slow_server):  # all are there before one is answered
            answers = pool.map(ask, range(12))
            while calls.under_way < 12:
                time.sleep(0.01)
        answers = list(answers)
    refused = [each for each in answers if isinstance(each, ServerOverloaded)]
    assert 0 < len(refused) < 12
    assert "queue is full" in str(refused[0])


class TestADeadlineThatPasses:
    def test_is_told_while_the_request_runs_to_its_end(self, slow_server, standing_still, random):
        request = make_request(random, 3000)
        with RankerClient(slow_server.grpc_url, "slow", timeout_s=60) as client:
            whole = client.rank(request)
            served = client._described()
            # The queue's timeout is not the caller's: the answer is to come.
            body = served.body(served.pack(request), 3000, 60)
            ended = SimpleQueue()
            calls = client._fleet.endpoints[0].calls
            with standing_still(slow_server):
                calls.start(body, ended.put)
                with pytest.raises(TimeoutError):
                    calls(body, 1e-4)
                assert calls.under_way == 2
            answer = served.scores(ended.get(timeout=60).inferred(), 3000)
            np.testing.assert_array_equal(answer, whole)

    def test_is_an_error_with_the_time_that_was_given(self, slow_server, standing_still, random):
        with RankerClient(slow_server.grpc_url, "slow", timeout_s=60) as client:
            client.rank(make_request(random, 3))
            with (
                standing_still(slow_server),
                pytest.raises(DeadlineExceeded, match=r"within 0\.1 ms: allow more time"),
            ):
                client.rank(make_request(random, 3000), timeout_s=1e-4)

    def test_has_to_be_a_number(self, client, random):
        with pytest.raises(InvalidRequest, match="timeout_s is nan"):
            client.rank(make_request(random, 3), timeout_s=float("nan"))

    @pytest.mark.parametrize("given", ["soon", 1j, [1], None])
    def test_has_to_be_one_for_the_client_too(self, given):
        with pytest.raises(InvalidRequest, match=r"timeout_s is .*; give seconds"):
            RankerClient("127.0.0.1:1", "tiny", timeout_s=given)

    def test_may_be_never(self, client, random):
        assert len(client.rank(make_request(random, 3), timeout_s=float("inf"))) == 3

    def test_before_the_request_is_sent_sends_nothing(self, client, random):
        client.rank(make_request(random, 3))
        with pytest.raises(DeadlineExceeded, match="within 0 ms"):
            client.rank(make_request(random, 3), timeout_s=0)
        assert not client._fleet.endpoints[0].calls.under_way


def test_a_version_with_grown_tables_is_noticed(start_server, tmp_path, random):
    from optimize.triton.repository import deploy

    features = list(SIGNATURE.features)
    features[0] = replace(features[0], cardinality=50)  # item_id; its table has 100 rows
    half = make_artifact(tmp_path / "half", signature=Signature(tuple(features)))
    deploy(half, tmp_path / "models", "tiny")
    request = make_request(random, 200)
    with (
        start_server(tmp_path / "models") as server,
        RankerClient(server.grpc_url, "tiny", timeout_s=30) as client,
    ):
        with pytest.raises(InvalidRequest, match="IDs run from 0 to 49"):
            client.rank(request)
        deploy(make_artifact(tmp_path / "whole"), tmp_path / "models", "tiny")
        server.reload("tiny")
        assert len(client.rank(request)) == 200


def test_packing_refuses_exactly_what_the_request_check_refuses(random):
    packing = Packing(SIGNATURE)
    for _ in range(300):
        request = make_request(random, int(random.integers(1, 4)))
        column = random.choice(["user_id", "history", "context"])
        if random.random() < 0.5:
            values = request.user[column].reshape(-1)
            values[random.integers(len(values))] = random.choice([-1, 49, 50, 99, 100])
        expected = _refusal(lambda request=request: request.check(SIGNATURE))
        assert _refusal(lambda request=request: packing.pack(request)) == expected


def _refusal(act):
    try:
        act()
    except RequestError as error:
        return str(error)
    return ""


def test_importing_the_client_imports_no_heavy_library():
    code = (
        "import sys, client; "
        "print([each for each in ('torch', 'onnxruntime', 'sklearn', 'pyarrow', 'matplotlib', "
        "'pandas', 'scipy', 'optimize') if each in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
