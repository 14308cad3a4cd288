"""A gRPC server that answers what it should not: the counterpart of a client under attack.

It is gRPC's own server, with handlers that take and give bytes.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
from tritonclient.grpc import service_pb2

from bench.validation.hostile_answers import MODEL, SIGNATURE, Answer, answer, config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

_SERVICE = "/inference.GRPCInferenceService/"


@contextmanager
def hostile_server() -> Iterator[str]:
    """Run the server in threads of this process; give its ``host:port``.

    The model ``hostile`` says truly what it reads and answers what its request's seed says
    (`bench.validation.hostile_answers`). A model ``hostile-N`` lies about what it reads, by seed N.
    """
    server = grpc.server(
        ThreadPoolExecutor(4),
        handlers=[_Handlers()],
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def hostile_process() -> Iterator[str]:
    """Run the server in a process of its own; give its ``host:port``."""
    context = multiprocessing.get_context("spawn")  # gRPC does not outlive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()  # the server ends with it
        process.join(10.0)
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    with hostile_server() as url:
        pipe.send(url)
        try:
            pipe.recv()
        except EOFError:
            return


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers the methods that a client asks, each by a seed."""

    def __init__(self) -> None:
        self._index = Random(0)

    def service(self, details: Any) -> Any:
        """Return the handler of a method; None if there is none."""
        asked = details.method.removeprefix(_SERVICE)
        of = {
            "ModelInfer": self._infer,
            "ModelConfig": self._config,
            "ModelReady": self._other,
            "RepositoryIndex": self._other,
        }.get(asked)
        return None if of is None else grpc.unary_unary_rpc_method_handler(of)

    def _infer(self, body: bytes, context: Any) -> bytes:
        request = service_pb2.ModelInferRequest.FromString(body)
        seed = int.from_bytes(request.raw_input_contents[0][:8], "little")
        return _sent(answer(seed, request.inputs[1].shape[1]), context)

    def _config(self, body: bytes, context: Any) -> bytes:
        name = service_pb2.ModelConfigRequest.FromString(body).name
        seed = _TRUE if name == MODEL else int(name.rpartition("-")[2])
        return _sent(config(seed, name), context)

    def _other(self, _body: bytes, context: Any) -> bytes:
        return _sent(answer(self._index.getrandbits(40), 3), context)


_TRUE = next(seed for seed in range(1000) if config(seed, MODEL).kind == "right")


def _sent(what: Answer, context: Any) -> bytes:
    if what.code is not grpc.StatusCode.OK:
        context.abort(what.code, what.details)
    return what.body


__all__ = ["MODEL", "SIGNATURE", "hostile_process", "hostile_server"]
