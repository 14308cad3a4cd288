from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_request

from client.channel import open_channel
from client.completions import CallFailed, CompletionThread, Ended
from client.connections import Connections
from client.errors import RankClientError
from client.served_model import ServedModel
from client.unhurried import UnhurriedCalls

pytestmark = pytest.mark.end_to_end
MODEL = ServedModel("tiny", SIGNATURE, 2000)


@pytest.fixture(params=["completion_thread", "public_futures", "connections"])
def calls(request, tiny_server):
    channel, _ = open_channel(tiny_server.grpc_url)
    connections = None
    if request.param == "connections":
        connections = Connections(tiny_server.grpc_url)
    calls = UnhurriedCalls(
        channel, public=request.param == "public_futures", connections=connections
    )
    while connections is not None and not connections._idle:
        calls(body_of(1), 30)
    yield calls
    calls.close(30)


@pytest.fixture
def body():
    return body_of(200)


def body_of(candidates, model=MODEL):
    request = make_request(np.random.default_rng(candidates), candidates)
    return model.body(model.pack(request), candidates, 30)


def test_an_answer_is_that_of_its_request(calls, tiny_predictor):
    for count in (1, 7, 500):
        request = make_request(np.random.default_rng(count), count)
        scores = MODEL.scores(calls(body_of(count), 30), count)
        np.testing.assert_array_equal(scores, tiny_predictor(request.flat()))


def test_a_refusal_has_grpcs_code_and_the_servers_words(calls):
    stranger = ServedModel("nobody", SIGNATURE, 2000)
    with pytest.raises(CallFailed) as caught:
        calls(body_of(3, stranger), 30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "nobody" in caught.value.details()


def test_bytes_that_are_no_request_are_refused(calls):
    with pytest.raises(CallFailed):
        calls(b"\xff\xff\xff", 30)


def test_many_calls_at_once_all_end_once(calls, body):
    ended: SimpleQueue[Ended] = SimpleQueue()
    for _ in range(100):
        calls.start(body, ended.put)
    answers = {ended.get(timeout=60).response for _ in range(100)}
    assert len(answers) == 1
    assert calls.under_way == 0
    assert ended.empty()


def test_closing_lets_calls_under_way_end_and_refuses_new_ones(calls, body):
    ended: SimpleQueue[Ended] = SimpleQueue()
    for _ in range(20):
        calls.start(body, ended.put)
    calls.close(60)
    calls.close(60)  # again does nothing
    assert {ended.get(timeout=60).code for _ in range(20)} == {grpc.StatusCode.OK}
    with pytest.raises(CallFailed, match="closed"):
        calls(body, 30)
    assert calls.under_way == 0


def test_a_callback_that_fails_leaves_the_others_alone(calls, body, caplog):
    def fail(_):
        raise RuntimeError("the caller's own mistake")

    calls.start(body, fail)
    calls(body, 30)
    deadline = time.monotonic() + 30
    while "own mistake" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "own mistake" in caplog.text
    calls(body, 30)


def test_a_damaged_answer_is_a_failed_call():
    with pytest.raises(CallFailed, match="damaged response"):
        Ended(b"\xff\xff").inferred()


def test_the_completion_thread_is_what_is_used_with_this_grpc(tiny_server):
    channel, _ = open_channel(tiny_server.grpc_url)
    calls = UnhurriedCalls(channel)
    assert isinstance(calls._starter, CompletionThread)
    calls.close(1)


def test_a_client_that_nobody_closed_leaves_no_thread(tiny_server, body):
    before = set(threading.enumerate())
    channel, _ = open_channel(tiny_server.grpc_url)
    calls = UnhurriedCalls(channel)
    calls(body, 30)
    (listening,) = set(threading.enumerate()) - before
    del calls, channel
    gc.collect()
    listening.join(60)
    assert not listening.is_alive()


def test_a_process_that_closes_nothing_ends_well(tiny_server):
    code = (
        "import sys, test_unhurried as t\n"
        "calls = t.UnhurriedCalls(t.open_channel(sys.argv[1])[0])\n"
        "for _ in range(50): calls.start(t.body_of(1000), lambda ended: None)\n"
        "calls(t.body_of(3), 30)\n"
    )
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code, tiny_server.grpc_url],
        env=os.environ | {"PYTHONPATH": f"{here}:{here.parent}:{here.parents[1]}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def _use_in_child(client, request, said):
    try:
        client.rank(request)
    except RankClientError as error:
        said.put(f"{type(error).__name__}: {error}")
    client.close()


def test_a_client_from_before_a_fork_says_so(tiny_server):
    from client import RankerClient

    request = make_request(np.random.default_rng(0), 3)
    context = multiprocessing.get_context("fork")
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        client.rank(request)
        said = context.SimpleQueue()
        child = context.Process(target=_use_in_child, args=(client, request, said))
        child.start()
        child.join(60)
        assert child.exitcode is not None
        assert said.get().startswith("ClientForked: this client was made by another process")
        assert len(client.rank(request)) == 3  # the parent's goes on
