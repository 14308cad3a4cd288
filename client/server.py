"""What a server says of itself and of its models."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2

from client.channel import open_channel
from client.errors import DeadlineExceeded, ServerUnreachable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server(NamedTuple):
    """A server that answers."""

    name: str
    version: str
    ready: bool


class Model(NamedTuple):
    """A model of a server's repository, with why it is not ready, if it is not."""

    name: str
    version: str
    state: str
    reason: str


def ask_server(url: str, timeout_s: float) -> Server:
    """Return what the server at a URL says of itself.

    Raises:
        ServerUnreachable: Nothing answers there.
        DeadlineExceeded: No answer came in time.
    """
    with _stub(url, timeout_s) as stub:
        said = stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=timeout_s)
        ready = stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=timeout_s).ready
    return Server(said.name, said.version, ready)


def ask_models(url: str, timeout_s: float) -> list[Model]:
    """Return the models of the server at a URL, by name. Raises as `ask_server`."""
    with _stub(url, timeout_s) as stub:
        index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), timeout=timeout_s).models
    found = [
        Model(
            each.name,
            each.version,
            each.state or "NOT LOADED",
            # The Python backend ends its report with a traceback, which is for the log.
            " ".join(each.reason.split("\n\nAt:", maxsplit=1)[0].split()),
        )
        for each in index
    ]
    return sorted(found)


@contextmanager
def _stub(url: str, timeout_s: float) -> Iterator[Any]:
    """Give the server's methods. None of them is an inference, so a deadline may cancel them."""
    channel, stub = open_channel(url)
    try:
        yield stub
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise DeadlineExceeded(
                f"the server at {url} did not answer within {timeout_s:g} s: see its log"
            ) from error
        raise ServerUnreachable(
            f"no server answers at {url}: start one with `python -m optimize serve`, or give its "
            f"gRPC host:port ({' '.join((error.details() or '').split())})"
        ) from error
    finally:
        channel.close()
