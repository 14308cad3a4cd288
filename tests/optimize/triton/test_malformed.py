"""Requests that no well-meaning client sends: the server says what is wrong and lives on."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request

import grpc
import numpy as np
import pytest
from tiny_ranker import make_request

from client import RankerClient

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def client(tiny_server, tiny_predictor):
    with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=30) as opened:
        yield opened
        # Whatever was sent, the next good request is answered rightly.
        request = make_request(np.random.default_rng(3), 12)
        np.testing.assert_array_equal(opened.rank(request), tiny_predictor(request.flat()))


@pytest.fixture
def message(client):
    """A good message of 3 candidates, to be spoilt."""
    return client._described().message(make_request(np.random.default_rng(0), 3), 30.0)


def refusal(client, message):
    with pytest.raises(grpc.RpcError) as caught:
        client._fleet.endpoints[0].stub.ModelInfer(message, timeout=30)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    return caught.value.details()


def rename(message):
    message.inputs[0].name = "usr_int64"


def change_dtype(message):
    message.inputs[2].datatype = "INT32"
    message.raw_input_contents[2] = message.raw_input_contents[2][:12]


def invent_dtype(message):
    message.inputs[2].datatype = "NONSENSE"


def change_width(message):
    message.inputs[0].shape[1] = 5
    message.raw_input_contents[0] += bytes(8)


def drop_axis(message):
    del message.inputs[2].shape[2]


def make_negative(message):
    message.inputs[2].shape[1] = -3


def make_huge(message):
    message.inputs[2].shape[1] = 2**60


def empty_candidates(message):
    for place in (2, 3):
        message.inputs[place].shape[1] = 0
        message.raw_input_contents[place] = b""


def disagree(message):
    message.inputs[3].shape[1] = 2
    message.raw_input_contents[3] = message.raw_input_contents[3][:16]


def truncate(message):
    message.raw_input_contents[2] = message.raw_input_contents[2][:-1]


def lengthen(message):
    message.raw_input_contents[2] += b"more"


def drop_input(message):
    del message.inputs[1]
    del message.raw_input_contents[1]


def repeat_input(message):
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])


def two_users(message):
    for each in message.inputs:
        each.shape[0] = 2
    for place in range(len(message.inputs)):
        message.raw_input_contents[place] *= 2


def too_many(message):
    for place, width in ((2, 8), (3, 8)):
        message.inputs[place].shape[1] = 2001
        message.raw_input_contents[place] = bytes(2001 * width)


def out_of_range(message):
    message.raw_input_contents[0] = np.array([50, 0, 0, 0]).tobytes()


def most_negative(message):
    message.raw_input_contents[2] = np.array([0, np.iinfo(np.int64).min, 0]).tobytes()


def not_a_number(message):
    message.raw_input_contents[1] = np.array([0, np.nan, 0, 0], np.float32).tobytes()


def ask_for_another_output(message):
    message.outputs[0].name = "scores"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (rename, "usr_int64"),
        (change_dtype, "item_int64"),
        (invent_dtype, "item_int64"),
        (change_width, "user_int64"),
        (drop_axis, "item_int64"),
        (make_negative, "item_int64"),
        (make_huge, "item_int64"),
        (empty_candidates, "no candidates"),
        (disagree, "item_float32 has 2 candidates; the tensors before have 3"),
        (truncate, "item_int64"),
        (lengthen, "item_int64"),
        (drop_input, "expected 4 inputs but got 3"),
        (repeat_input, "user_int64"),
        (two_users, "a request carries one user"),
        (too_many, "2001 candidates; this model answers 2000 at most"),
        (out_of_range, "'user_id' holds the ID 50 in row 0; IDs run from 0 to 49"),
        (most_negative, "'item_id' holds the ID -9223372036854775808 in row 1"),
        (not_a_number, "'context' holds a value that is not finite in row 0"),
        (ask_for_another_output, "scores"),
    ],
)
def test_a_spoilt_message_is_refused_saying_what_is_wrong(client, message, spoil, said):
    spoil(message)
    assert said in refusal(client, message)


def test_bytes_that_are_no_protobuf_are_refused(client, tiny_server):
    random = np.random.default_rng(0)
    with grpc.insecure_channel(tiny_server.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for size in (0, 1, 17, 1000, 100_000):
            with pytest.raises(grpc.RpcError):
                call(random.bytes(size), timeout=30)


def test_bytes_that_are_no_grpc_are_survived(client, tiny_server):
    host, port = tiny_server.grpc_url.split(":")
    for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(1000), np.random.default_rng(0).bytes(5000)):
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(garbage)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v2/models/tiny/infer", b"\x00\xff garbage"),
        ("/v2/models/tiny/infer", b"{}"),
        ("/v2/models/tiny/infer", b'{"inputs": [{"name": "user_int64", "shape": "x"}]}'),
        ("/v2/models/tiny/infer", b"[" * 1000),
        ("/v2/models/nobody/infer", b"{}"),
        ("/v2/nowhere", b"{}"),
    ],
)
def test_http_garbage_is_refused(client, tiny_server, path, body):
    url = tiny_server.http_url + path
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, data=body, timeout=30)  # noqa: S310 - the server under test
    # Triton's own parser answers some of these with 500; what counts is that it says what is wrong.
    assert caught.value.code >= 400
    assert path == "/v2/nowhere" or b"error" in caught.value.read()
    caught.value.close()
