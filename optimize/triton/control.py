"""What is asked of a running Triton over gRPC by whoever started it."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


def load_model(url: str, name: str, timeout_s: float) -> str:
    """Load a model's newest version; return why it will not, in one line, or nothing."""
    import grpc
    from tritonclient.grpc import service_pb2

    with server_stub(url) as stub:
        try:
            stub.RepositoryModelLoad(
                service_pb2.RepositoryModelLoadRequest(model_name=name), timeout=timeout_s
            )
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
                return f"it was not ready within {timeout_s:.0f} s"
            return _plain_reason(error.details() or str(error.code()))
    return ""


@contextmanager
def server_stub(url: str) -> Iterator[Any]:
    """Give the gRPC methods of a server, until the block ends."""
    import grpc
    from tritonclient.grpc import service_pb2_grpc

    # A channel of its own each time: one that failed waits before it tries again.
    with grpc.insecure_channel(url, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def _plain_reason(details: str) -> str:
    """Keep of Triton's report what a person needs: no nesting, no Python traceback."""
    text = details.split("\n\nAt:", maxsplit=1)[0]
    for prefix in (
        r"^load failed for model '[^']*': ",
        r"^version \d+ is at UNAVAILABLE state: ",
        r"^(Internal|Invalid argument|Not found|Unavailable): ",
        r"^\w*(Error|Exception): ",
    ):
        text = re.sub(prefix, "", text)
    return " ".join(text.split()).rstrip(";")
