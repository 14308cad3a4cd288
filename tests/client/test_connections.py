"""Connections of the client's own to real servers, and when gRPC is asked instead."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import SimpleQueue

import grpc
import numpy as np
import pytest
from tiny_ranker import SIGNATURE, make_request

from client import AsyncRankerClient, DeadlineExceeded, Policies, RankerClient
from client.channel import open_channel
from client.connections import Connections
from client.inbox import Inbox
from client.served_model import ServedModel
from client.unhurried import UnhurriedCalls

pytestmark = pytest.mark.end_to_end
REQUEST = make_request(np.random.default_rng(0), 20)


def until(holds):
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert holds()


def connections_of(client, place=0):
    return client._fleet.endpoints[place].calls._connections


def settled(connections):
    return len(connections._all) >= connections._wanted


def warm(client, place=0):
    """Ask until a call has a connection to itself."""
    connections = connections_of(client, place)
    deadline = time.monotonic() + 60
    while not connections._idle and time.monotonic() < deadline:
        client.rank(REQUEST)
    assert connections._idle
    return connections


@pytest.fixture
def grpc_calls(monkeypatch):
    """Count the inferences that gRPC was asked for."""
    from client.completions import CompletionThread

    methods = []
    start = CompletionThread.start

    def counted(self, method, *others):
        methods.append(method)
        start(self, method, *others)

    monkeypatch.setattr(CompletionThread, "start", counted)
    return methods


@pytest.mark.parametrize("limit", [False, True], ids=["alone", "with policies"])
def test_a_warm_client_asks_grpc_for_nothing(tiny_server, tiny_predictor, grpc_calls, limit):
    policies = Policies(limit=limit)
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30, policies=policies) as client:
        warm(client)
        until(lambda: settled(connections_of(client)))
        grpc_calls.clear()
        for _ in range(20):
            scores = client.rank(REQUEST)
            np.testing.assert_array_equal(scores, tiny_predictor(REQUEST.flat()))
        assert grpc_calls == []


def test_so_does_one_for_asyncio(tiny_server, tiny_predictor, grpc_calls):
    async def ask():
        async with AsyncRankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
            connections = connections_of(client)
            while len(connections._all) < 8:
                await asyncio.gather(*(client.rank(REQUEST) for _ in range(8)))
            until(lambda: settled(connections))
            grpc_calls.clear()
            return await asyncio.gather(*(client.rank(REQUEST) for _ in range(8)))

    for scores in asyncio.run(ask()):
        np.testing.assert_allclose(scores, tiny_predictor(REQUEST.flat()), rtol=0, atol=1e-6)
    assert grpc_calls == []


def test_parts_and_requests_asked_at_once_each_have_a_connection(tiny_server, tiny_predictor):
    request = make_request(np.random.default_rng(1), 6001)  # four calls
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        connections = warm(client)
        for _ in range(30):
            scores = client.rank(request)
            np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)
        until(lambda: settled(connections))
        assert 4 <= len(connections._all) <= 5
        assert len(connections._idle) == len(connections._all)


def test_threads_share_no_connection(tiny_server, tiny_predictor):
    requests = [make_request(np.random.default_rng(n), n + 1) for n in range(300)]
    with (
        RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client,
        ThreadPoolExecutor(12) as pool,
    ):
        warm(client)
        for request, scores in zip(requests, pool.map(client.rank, requests), strict=True):
            np.testing.assert_allclose(scores, tiny_predictor(request.flat()), rtol=0, atol=1e-6)


def test_a_late_call_keeps_its_connection_until_it_ends(tiny_server, standing_still):
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        connections = warm(client)
        until(lambda: settled(connections))
        calls, many = client._fleet.endpoints[0].calls, len(connections._idle)
        with standing_still(tiny_server):
            with pytest.raises(DeadlineExceeded):
                client.rank(REQUEST, timeout_s=0.001)
            assert calls.under_way == 1
            assert len(connections._idle) == many - 1
        until(lambda: len(connections._idle) >= many)
        assert calls.under_way == 0
        assert len(client.rank(REQUEST)) == 20
    until(lambda: not [each for each in threading.enumerate() if each.name == "rankserve-late"])


class Echo(grpc.GenericRpcHandler):
    """Answers every method with what it was sent."""

    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda body, _: body)


@contextmanager
def echoing(port=0):
    server = grpc.server(ThreadPoolExecutor(4), [Echo()], options=[("grpc.so_reuseport", 0)])
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def test_a_server_that_comes_back_is_asked_again_and_no_call_is_lost():
    with echoing() as port:
        url = f"127.0.0.1:{port}"
        connections = Connections(url)
        calls = UnhurriedCalls(open_channel(url)[0], connections=connections)

        def ask(body):
            ended = SimpleQueue()
            inbox = Inbox()
            calls.start(body, ended.put, waiting=inbox)
            while ended.empty():
                inbox.get(0.01)
            return ended.get()

        def warm():
            until(lambda: ask(b"x").response == b"x" and connections._idle)

        warm()
        began = time.monotonic()
    # It answers what the server says before it stops, which would wait for 20 s else.
    assert time.monotonic() - began < 15
    assert ask(b"x").code is grpc.StatusCode.UNAVAILABLE
    with echoing(port):
        warm()
        assert all(each.usable for each in connections._all)
        assert [ask(b"%d" % n).response for n in range(20)] == [b"%d" % n for n in range(20)]
    calls.close(1)


def test_what_is_no_plain_address_or_needs_tls_is_grpcs(tiny_server):
    port = tiny_server.grpc_url.rpartition(":")[2]
    with RankerClient(f"ipv4:127.0.0.1:{port}", "tiny", timeout_s=30) as client:
        for _ in range(5):
            client.rank(REQUEST)
        assert connections_of(client).take() is None
        assert not connections_of(client)._all
    tls = grpc.ssl_channel_credentials()
    with RankerClient("127.0.0.1:1", "tiny", credentials=tls) as client:
        assert connections_of(client) is None


def test_a_listener_that_speaks_otherwise_is_left_to_grpc():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        connections = Connections(f"127.0.0.1:{listener.getsockname()[1]}")
        assert connections.take() is None  # who asks once needs none
        assert connections.take() is None
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            until(lambda: connections._off)
        assert not connections._all


def test_closing_ends_the_calls_that_are_under_way(tiny_server, standing_still):
    served = ServedModel("tiny", SIGNATURE, 2000)
    body = served.body(served.pack(REQUEST), 20, 30)
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as client:
        warm(client)
        calls = client._fleet.endpoints[0].calls
        with standing_still(tiny_server), ThreadPoolExecutor(1) as pool:
            asked = pool.submit(calls, body, 30)
            until(lambda: calls.under_way == 1)
            calls.close(0)
            assert asked.exception(30).code().name == "CANCELLED"
