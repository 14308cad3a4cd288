"""OpenTelemetry spans of requests and of their calls, and the W3C trace context that goes along.

Only imported by a client that was made with ``tracing=True``. A request is a span of its own kind;
each call to a replica (the first, retries, hedges) is a client span below it, by the semantic
conventions for gRPC (https://opentelemetry.io/docs/specs/semconv/rpc/grpc/), which ends when the
call does, waited for or not. Nothing of a request's content is in them.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import grpc

from client.errors import InvalidRequest
from client.server_url import host_and_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from client.completions import Ended, Metadata
    from rankers.requests import RankingRequest

_SERVICE, _METHOD = "inference.GRPCInferenceService", "ModelInfer"


class Tracing:
    """Makes the spans of one client.

    Args:
        model: Who is asked.

    Raises:
        InvalidRequest: OpenTelemetry is not installed.
    """

    def __init__(self, model: str) -> None:
        try:
            from opentelemetry import propagate, trace
        except ImportError as error:
            raise InvalidRequest(
                "tracing needs OpenTelemetry: install `rankserve[otel]`, or leave tracing off"
            ) from error
        self._model, self._trace, self._inject = model, trace, propagate.inject
        self._tracer = trace.get_tracer("rankserve.client")

    @contextmanager
    def request(self, requests: Sequence[RankingRequest]) -> Iterator[None]:
        """Hold a span of what a caller asked, below the caller's own."""
        attributes: dict[str, str | int] = {
            "rankserve.model": self._model,
            "rankserve.requests": len(requests),
        }
        with suppress(AttributeError, TypeError):  # what is no request is refused below
            attributes["rankserve.candidates"] = sum(each.candidates for each in requests)
        name = f"rank {self._model}"
        with self._tracer.start_as_current_span(name, attributes=attributes) as span:
            try:
                yield
            except Exception as error:
                span.set_attribute("error.type", type(error).__name__)
                raise

    def call(self, url: str, kind: str) -> TracedCall:
        """Begin the span of a call that is about to be sent, below the present one.

        Args:
            url: Of the replica.
            kind: ``first``, ``retry`` or ``hedge``.
        """
        address, port = host_and_port(url)
        attributes: dict[str, str | int] = {
            "rpc.system": "grpc",
            "rpc.service": _SERVICE,
            "rpc.method": _METHOD,
            "server.address": address,
            "rankserve.model": self._model,
            "rankserve.call": kind,
        }
        if port is not None:
            attributes["server.port"] = port
        span = self._tracer.start_span(
            f"{_SERVICE}/{_METHOD}", kind=self._trace.SpanKind.CLIENT, attributes=attributes
        )
        carrier: dict[str, str] = {}
        self._inject(carrier, self._trace.set_span_in_context(span))
        return TracedCall(span, tuple(carrier.items()), self._trace)


class TracedCall:
    """The span of one call.

    Attributes:
        metadata: Of the trace, such as ``traceparent``, to be sent with the call.
    """

    def __init__(self, span: Any, metadata: Metadata, trace: Any) -> None:
        self._span, self._trace = span, trace
        self.metadata = metadata

    def ended(self, ended: Ended) -> None:
        """End it, from any thread."""
        self._span.set_attribute("rpc.grpc.status_code", ended.code.value[0])
        if ended.code is not grpc.StatusCode.OK:
            self._span.set_attribute("error.type", ended.code.name)
            self._span.set_status(self._trace.StatusCode.ERROR, ended.code.name)
        self._span.end()
