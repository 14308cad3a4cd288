"""The gRPC channel to a Triton server, and what its refusals mean."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2, service_pb2_grpc

from client.errors import (
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    RankClientError,
    ServerOverloaded,
    ServerUnreachable,
)
from rankers.errors import nearest

if TYPE_CHECKING:
    from client.completions import Ended, Metadata

_OPTIONS = [
    # Given options replace gRPC's defaults one by one; a request of many candidates is over 4 MB.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Keeps an idle connection alive through NATs. Triton takes pings less than 300 s apart for
    # abuse and closes the connection.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A server that comes back is to be found at once, not after gRPC's minutes of back-off.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_http_proxy", 0),
    # gRPC would send a call again, without end and growing by 250 MB/s, where what answers says
    # GOAWAY to each connection (docs/decisions/026). Retries are the policies'.
    ("grpc.enable_retries", 0),
]


class Trouble(Enum):
    """Why a call failed, as far as policies care."""

    UNREACHABLE = "unreachable"
    NOT_READY = "not ready"
    FULL = "full"
    LATE = "late"
    OTHER = "other"


# What another replica may be asked after: nothing was computed, and it is not the request's fault.
RETRYABLE = frozenset({Trouble.UNREACHABLE, Trouble.NOT_READY, Trouble.FULL})


def open_channel(
    url: str, credentials: grpc.ChannelCredentials | None = None, *, authority: str = ""
) -> tuple[grpc.Channel, Any]:
    """Return a channel that lives as long as its client, and the server's methods on it.

    Args:
        url: ``host:port``.
        credentials: For TLS.
        authority: The ``host:port`` that is asked for there, whose certificate it has to show, if
            it is not the URL's.
    """
    options: list[tuple[str, Any]] = list(_OPTIONS)
    if authority:
        options.append(("grpc.default_authority", authority))
    if credentials is None:
        channel = grpc.insecure_channel(url, options=options)
    else:
        channel = grpc.secure_channel(url, credentials, options=options)
    return channel, service_pb2_grpc.GRPCInferenceServiceStub(channel)


def trouble(code: grpc.StatusCode, details: str) -> Trouble:
    """Tell what kind of failure a call's end is."""
    said = details.lower()
    if code == grpc.StatusCode.DEADLINE_EXCEEDED or "timeout expired" in said:
        return Trouble.LATE
    if "maximum queue size" in said:
        return Trouble.FULL
    if "is not ready" in said or "unknown model" in said:
        return Trouble.NOT_READY
    return Trouble.UNREACHABLE if code == grpc.StatusCode.UNAVAILABLE else Trouble.OTHER


def explain(
    error: grpc.RpcError,
    stub: Any,
    url: str,
    model: str,
    timeout_s: float,
    *,
    metadata: Metadata = (),
) -> RankClientError:
    """Return what a failed call means, as an exception to raise.

    Args:
        error: What gRPC raised.
        stub: Asked for the models there are, if this one is unknown.
        url: The server.
        model: The model asked for.
        timeout_s: How long the call was given.
        metadata: Sent with every call.
    """
    code, details = error.code(), " ".join((error.details() or "").split())
    where = f"model {model!r} at {url}"
    if code == grpc.StatusCode.DEADLINE_EXCEEDED or "timeout expired" in details.lower():
        return too_late(url, model, timeout_s)
    if "maximum queue size" in details:
        return ServerOverloaded(
            f"{where}: its queue is full: send fewer requests at once, or serve more instances"
        )
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(f"{where}: {_without_preamble(details)}")
    if "unknown model" in details or "is not ready" in details or "not found" in details.lower():
        return _missing(stub, url, model, details, metadata)
    if code == grpc.StatusCode.UNAVAILABLE:
        return ServerUnreachable(
            f"no server answers at {url}: start one with `python -m optimize serve`, or give its "
            f"gRPC host:port ({details})"
        )
    return ModelFailed(f"{where}: {_without_preamble(details)} ({code.name})")


def too_late(url: str, model: str, timeout_s: float) -> DeadlineExceeded:
    """Return what a missed deadline is, as an exception to raise."""
    return DeadlineExceeded(
        f"model {model!r} at {url}: no scores within {timeout_s * 1000:g} ms: "
        "allow more time, send fewer candidates or fewer requests at once"
    )


def says_ready(ended: Ended) -> bool:
    """Tell whether the answer to a question for readiness says yes."""
    if ended.response is None:
        return False
    try:
        return bool(service_pb2.ModelReadyResponse.FromString(ended.response).ready)
    except DecodeError:
        return False


def _missing(stub: Any, url: str, model: str, details: str, metadata: Metadata) -> RankClientError:
    try:
        request = service_pb2.RepositoryIndexRequest()
        index = stub.RepositoryIndex(request, timeout=2.0, metadata=metadata or None).models
    except grpc.RpcError:
        return ModelNotFound(f"no model {model!r} at {url}: {details}")
    states = {each.name: each for each in index}
    if model in states and states[model].state != "READY":
        # The Python backend ends its report with a traceback, which is for the log.
        reason = states[model].reason.split("\n\nAt:", maxsplit=1)[0]
        reason = " ".join(reason.split()) or "it was not loaded"
        return ModelNotReady(
            f"model {model!r} at {url} is not ready: {reason}: wait, or see the server's log"
        )
    if model in states:
        return ModelNotReady(f"model {model!r} at {url} is not ready: {details}: try again")
    return ModelNotFound(f"no model {model!r} at {url}; {nearest(model, states)}")


def _without_preamble(details: str) -> str:
    """Drop what Triton puts before a message: its own request ID, which clients do not know."""
    if details.startswith("[request id:") and "] " in details:
        return details.split("] ", maxsplit=1)[1]
    return details
