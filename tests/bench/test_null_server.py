"""The server that answers everything alike, asked by gRPC's own client."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from bench.null_server import null_server

ANSWER = bytes(range(256)) * 4


@pytest.fixture(scope="module")
def call():
    with null_server(ANSWER) as (address, _), grpc.insecure_channel(address) as channel:
        method = channel.unary_unary("/any.Service/AnyMethod", None, None)
        yield lambda body: method(body, timeout=20.0)


@pytest.mark.parametrize("size", [0, 1, 4096, 3_000_000])
def test_answers_a_request_of_any_size(call, size):
    assert call(bytes(size)) == ANSWER


def test_answers_as_many_as_were_sent_at_once_over_one_connection(call):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, [bytes(n) for n in range(400)]))
    assert answers == [ANSWER] * 400


def test_reads_on_after_as_much_as_one_connection_may_have_under_way(call):
    body = bytes(3_000_000)
    for _ in range(8):  # 24 MB, of a window of 16 MiB
        assert call(body) == ANSWER


def test_ends_with_the_block_that_it_was_started_for():
    with null_server(ANSWER) as (_, process):
        assert process.is_alive()
    assert not process.is_alive()
