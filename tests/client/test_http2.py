"""Calls on one connection, before a peer of the test's own that says what it likes."""

from __future__ import annotations

import socket
import struct

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.completions import Ended
from client.frames import HEAD, WINDOW_UPDATE, call_headers, frame
from client.header_blocks import NotUnderstood, literal, read
from client.http2 import Connection
from client.opening import wait

HEADERS = b"\x88" + literal([("content-type", "application/grpc")])
RIGHT = literal([("grpc-status", "0")])
SETTINGS = frame(4, 0, 0, b"")
COMPRESSED = (
    SETTINGS
    + frame(1, 4, 1, HEADERS)
    + frame(0, 0, 1, b"\x01\x00\x00\x00\x01x")
    + frame(1, 5, 1, RIGHT)
)
CALL = call_headers("a:1", "/service/method", (("token", "x"),))


def message(body):
    return b"\x00" + len(body).to_bytes(4) + body


def answered(body, *, stream=1):
    return (
        frame(1, 4, stream, HEADERS)
        + frame(0, 0, stream, message(body))
        + frame(1, 5, stream, RIGHT)
    )


class Peer:
    """A connection, and the other end of its socket."""

    def __init__(self):
        ours, self.socket = socket.socketpair()
        self.socket.settimeout(30)
        self.connection = Connection(ours)
        self.read = b""
        assert self._take(24).startswith(b"PRI * HTTP/2.0")

    def _take(self, size):
        while len(self.read) < size:
            received = self.socket.recv(1 << 16)
            assert received
            self.read += received
        taken, self.read = self.read[:size], self.read[size:]
        return taken

    def frame(self):
        high, low, kind, flags, stream = HEAD.unpack(self._take(9))
        return kind, flags, stream, self._take(high << 8 | low)

    def says(self, *said):
        """Say everything, hang up, and return how the call ended."""
        self.connection.begin(CALL, b"body")
        self.socket.sendall(b"".join(said))
        self.socket.shutdown(socket.SHUT_WR)
        ended = wait(self.connection, 30)
        self.close()
        return ended

    def close(self):
        self.socket.close()
        self.connection.close()


@pytest.fixture
def peer():
    made = Peer()
    yield made
    made.close()


def test_a_call_is_its_headers_and_its_message_and_brings_the_answer(peer):
    peer.connection.begin(CALL, b"body")
    peer.socket.sendall(SETTINGS + answered(b"scores"))
    assert wait(peer.connection, 30) == Ended(b"scores")
    kinds = [peer.frame() for _ in range(4)]
    assert [each[0] for each in kinds] == [4, 8, 1, 0]
    assert read(kinds[2][3]) == {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/service/method",
        ":authority": "a:1",
        "te": "trailers",
        "content-type": "application/grpc",
        "user-agent": "rankserve",
        "token": "x",
    }
    assert kinds[3] == (0, 1, 1, message(b"body"))


def test_calls_follow_one_another(peer):
    peer.socket.sendall(SETTINGS)
    for number in range(5):
        peer.connection.begin(CALL, b"body")
        peer.socket.sendall(answered(b"%d" % number, stream=2 * number + 1))
        assert wait(peer.connection, 30) == Ended(b"%d" % number)
        assert peer.connection.usable


def test_an_answer_may_come_byte_by_byte(peer):
    peer.connection.begin(CALL, b"body")
    for byte in SETTINGS + answered(b"scores"):
        peer.socket.sendall(bytes([byte]))
        ended = wait(peer.connection, 1e-3)
    assert (ended or wait(peer.connection, 30)) == Ended(b"scores")


def test_a_message_waits_for_the_windows_and_comes_whole(peer):
    body = bytes(range(256)) * 1000  # 256,000 bytes; a stream begins with 65,535
    peer.connection.begin(CALL, body)
    peer.socket.sendall(SETTINGS)
    got = b""
    while len(got) < len(body) + 5:
        wait(peer.connection, 1e-3)
        kind, flags, stream, payload = peer.frame()
        if kind == 0:
            got += payload
            assert len(payload) <= 16_384
            assert bool(flags & 1) is (len(got) == len(body) + 5)
            widen = len(payload).to_bytes(4)
            peer.socket.sendall(
                frame(WINDOW_UPDATE, 0, 0, widen) + frame(WINDOW_UPDATE, 0, stream, widen)
            )
    assert got == message(body)
    peer.socket.sendall(answered(b"scores"))
    assert wait(peer.connection, 30) == Ended(b"scores")


def test_pings_are_answered_also_between_calls(peer):
    peer.socket.sendall(SETTINGS + frame(6, 0, 0, b"12345678"))
    peer.connection.advance()
    frames = [peer.frame() for _ in range(4)]
    assert frames[-1] == (6, 1, 0, b"12345678")


def test_headers_may_go_on(peer):
    status = literal([("grpc-status", "5"), ("grpc-message", "no model %27a%27")])
    ended = peer.says(
        SETTINGS,
        frame(1, 4, 1, HEADERS),
        frame(1, 1, 1, status[:9]),
        frame(9, 0, 1, status[9:20]),
        frame(9, 4, 1, status[20:]),
    )
    assert ended == Ended(None, grpc.StatusCode.NOT_FOUND, "no model 'a'")


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        (SETTINGS, "UNAVAILABLE", "closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "INTERNAL", "not understood"),
        (SETTINGS + frame(7, 0, 0, bytes(8)), "UNAVAILABLE", "closes the connection"),
        (SETTINGS + frame(3, 0, 1, (7).to_bytes(4)), "UNAVAILABLE", "reset"),
        (SETTINGS + frame(3, 0, 1, (2).to_bytes(4)), "INTERNAL", "reset"),
        (SETTINGS + frame(1, 5, 1, b"\x8d"), "UNIMPLEMENTED", "HTTP 404"),
        (SETTINGS + frame(1, 5, 1, b"\xbe"), "INTERNAL", "table that was not agreed on"),
        (SETTINGS + frame(1, 5, 1, b"\x00\x81\x07\x01x"), "INTERNAL", "Huffman"),
        (SETTINGS + frame(1, 5, 1, HEADERS + RIGHT), "INTERNAL", "not one message"),
        (COMPRESSED, "INTERNAL", "not one message"),
        (SETTINGS + frame(5, 4, 1, bytes(8)), "INTERNAL", "nobody asked for"),
        (SETTINGS + frame(9, 4, 1, RIGHT), "INTERNAL", "before they begin"),
        (SETTINGS + frame(1, 0, 1, HEADERS) + SETTINGS, "INTERNAL", "do not go on"),
        (SETTINGS + b"\xff\xff\xff\x00\x00" + bytes(4), "INTERNAL", "longer than allowed"),
        (frame(4, 0, 0, b"12345"), "INTERNAL", "damaged settings"),
    ],
)
def test_what_is_no_answer_is_a_failure_that_says_why(peer, said, code, why):
    ended = peer.says(said)
    assert ended.response is None
    assert ended.code.name == code
    assert why in ended.details
    assert not peer.connection.usable


def test_a_call_that_was_answered_before_it_was_sent_leaves_no_connection(peer):
    peer.connection.begin(CALL, bytes(100_000))
    peer.socket.sendall(SETTINGS + frame(1, 5, 1, HEADERS + literal([("grpc-status", "8")])))
    assert wait(peer.connection, 30).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert not peer.connection.usable


@settings(deadline=None)
@given(
    place=st.integers(0, 200),
    change=st.binary(max_size=40),
    settled=st.booleans(),
)
def test_whatever_is_said_a_call_ends(place, change, settled):
    said = SETTINGS * settled + frame(4, 0, 0, struct.pack(">HI", 4, 10)) + answered(b"scores" * 9)
    peer = Peer()
    ended = peer.says(said[:place], change, said[place + len(change) :])
    assert isinstance(ended, Ended)
    assert ended.response is not None or ended.details


@given(st.binary(max_size=300))
def test_any_block_is_read_or_not_understood(block):
    try:
        headers = read(block)
    except NotUnderstood:
        return
    assert all(isinstance(each, str) for each in (*headers, *headers.values()))


@given(st.dictionaries(st.sampled_from(["a", "grpc-status"]), st.text("xyz", max_size=500)))
def test_a_block_is_read_as_it_was_written(headers):
    assert read(literal(headers.items())) == headers
