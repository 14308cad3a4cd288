"""Spans of requests and of their calls, and the trace context that the server is sent."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tiny_ranker import make_request

from client import AsyncRankerClient, InvalidRequest, ModelFailed, RankerClient
from client.server_url import host_and_port


@pytest.fixture(scope="module")
def exported():
    """What spans end in. A process has one provider of spans."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def spans(exported):
    exported.clear()

    def ended(calls):
        """Return the request's span and those of its calls, which may end a little later."""
        deadline = threading.Event()
        for _ in range(6000):
            found = exported.get_finished_spans()
            of_calls = [each for each in found if each.kind is SpanKind.CLIENT]
            if len(of_calls) == calls:
                break
            deadline.wait(0.01)
        assert len(of_calls) == calls
        (request,) = [each for each in found if each.name == "rank tiny"]
        return request, sorted(of_calls, key=lambda each: each.start_time)

    return ended


@contextmanager
def recording(url):
    """Pass every call on to a server; give the address, and the metadata of each inference."""
    seen = []
    with grpc.insecure_channel(url) as behind:

        class PassOn(grpc.GenericRpcHandler):
            def service(self, details):
                call = behind.unary_unary(details.method)

                def pass_on(body, context):
                    if details.method.endswith("ModelInfer"):
                        seen.append(dict(context.invocation_metadata()))
                    return call(body)

                return grpc.unary_unary_rpc_method_handler(pass_on)

        server = grpc.server(ThreadPoolExecutor(2), handlers=[PassOn()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}", seen
        server.stop(10).wait()


@pytest.fixture
def request_():
    return make_request(np.random.default_rng(0), 20)


@pytest.mark.end_to_end
class TestATracedClient:
    def test_has_a_span_of_the_call_below_that_of_the_request_below_the_callers(
        self, tiny_server, spans, request_
    ):
        with recording(tiny_server.grpc_url) as (url, seen):
            tracer = trace.get_tracer("test")
            with (
                RankerClient(url, "tiny", timeout_s=60, tracing=True) as client,
                tracer.start_as_current_span("caller") as caller,
            ):
                client.rank(request_)
            asked, (call,) = spans(1)
        assert asked.parent.span_id == caller.get_span_context().span_id
        assert call.parent.span_id == asked.context.span_id
        assert dict(asked.attributes) == {
            "rankserve.model": "tiny",
            "rankserve.requests": 1,
            "rankserve.candidates": 20,
        }
        host, port = url.split(":")
        assert call.name == "inference.GRPCInferenceService/ModelInfer"
        assert dict(call.attributes) == {
            "rpc.system": "grpc",
            "rpc.service": "inference.GRPCInferenceService",
            "rpc.method": "ModelInfer",
            "rpc.grpc.status_code": 0,
            "server.address": host,
            "server.port": int(port),
            "rankserve.model": "tiny",
            "rankserve.call": "first",
        }
        (metadata,) = seen
        ids = f"00-{call.context.trace_id:032x}-{call.context.span_id:016x}-"
        assert metadata["traceparent"].startswith(ids)

    def test_has_a_span_of_each_part_of_a_split_request(self, tiny_server, spans):
        request = make_request(np.random.default_rng(0), 4001)
        with RankerClient(tiny_server.grpc_url, "tiny", timeout_s=60, tracing=True) as client:
            client.rank(request)
        asked, calls = spans(3)
        assert {each.parent.span_id for each in calls} == {asked.context.span_id}

    def test_has_a_span_of_the_retry_and_of_what_failed(self, tiny_server, spans, request_):
        urls = ["127.0.0.1:1", tiny_server.grpc_url]
        with RankerClient(urls, "tiny", timeout_s=60, tracing=True) as client:
            client.signature  # noqa: B018 - read now
            client._fleet.replicas[1].under_way = 9  # the first is the one that is not there
            client.rank(request_)
        _, (first, second) = spans(2)
        assert first.attributes["rankserve.call"] == "first"
        assert first.attributes["rpc.grpc.status_code"] == grpc.StatusCode.UNAVAILABLE.value[0]
        assert first.attributes["error.type"] == "UNAVAILABLE"
        assert first.status.status_code is StatusCode.ERROR
        assert second.attributes["rankserve.call"] == "retry"
        assert second.status.status_code is StatusCode.UNSET

    def test_has_an_error_on_a_request_that_failed(self, tiny_server, spans, request_):
        request_.items["price"][0, 0] = -1.0
        with (
            RankerClient(tiny_server.grpc_url, "tiny", timeout_s=60, tracing=True) as client,
            pytest.raises(ModelFailed),
        ):
            client.rank(request_)
        asked, _ = spans(1)
        assert asked.attributes["error.type"] == "ModelFailed"
        assert asked.status.status_code is StatusCode.ERROR

    def test_has_the_same_spans_by_coroutines(self, tiny_server, spans, request_):
        async def use():
            async with AsyncRankerClient(
                tiny_server.grpc_url, "tiny", timeout_s=60, tracing=True
            ) as client:
                await client.rank(request_)

        asyncio.run(use())
        asked, (call,) = spans(1)
        assert call.parent.span_id == asked.context.span_id

    def test_refuses_what_is_no_request_as_others_do(self, tiny_server, exported):
        with (
            RankerClient(tiny_server.grpc_url, "tiny", timeout_s=60, tracing=True) as client,
            pytest.raises(InvalidRequest, match="got a NoneType"),
        ):
            client.rank(None)


@pytest.mark.end_to_end
def test_a_client_that_is_not_traced_sends_no_trace_context(tiny_server, exported, request_):
    exported.clear()
    with recording(tiny_server.grpc_url) as (url, seen):
        with (
            trace.get_tracer("test").start_as_current_span("caller"),
            RankerClient(url, "tiny", timeout_s=60) as client,
        ):
            client.rank(request_)
            assert client._fleet.alone
        assert "traceparent" not in seen[0]
    assert [each.name for each in exported.get_finished_spans()] == ["caller"]


def test_without_opentelemetry_only_a_traced_client_says_so():
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from client import InvalidRequest, RankerClient\n"
        "RankerClient('127.0.0.1:1', 'tiny').close()\n"
        "try:\n    RankerClient('127.0.0.1:1', 'tiny', tracing=True)\n"
        "except InvalidRequest as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tracing needs OpenTelemetry: install `rankserve[otel]`" in done.stdout


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("a:8001", ("a", 8001)),
        ("[::1]:8001", ("::1", 8001)),
        ("dns:///a.b:1", ("a.b", 1)),
        ("a", ("a", None)),
        ("::1", ("::1", None)),
        ("unix:///run/triton", ("triton", None)),
    ],
)
def test_a_url_has_a_host_and_a_port(url, expected):
    assert host_and_port(url) == expected
