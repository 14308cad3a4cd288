"""Every way to one model on one server, as functions that make calls in a row.

Floors send what was serialized before; what a caller would do to each request is left out, but for
the copy of its tensors into shared memory and of its scores out of it, which are that way's price.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import uuid
from importlib import import_module
from multiprocessing.shared_memory import SharedMemory
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.transports import datatype
from bench.validation.http_exchange import exchange
from bench.validation.in_a_row import awaited_in_a_row, in_a_row
from bench.validation.served_identity import MODEL, SIGNATURE
from rankers.wire import SCORE, pack_request, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import ExitStack

    from rankers.requests import Array, RankingRequest

PLAIN, OFF, ON = "tritonclient grpc", "client, policies off", "client, policies on"
_METHOD = "/inference.GRPCInferenceService/ModelInfer"
_PATIENCE_S = 30.0


class Ways:
    """All ways to the model that a server serves, for one request.

    Args:
        grpc_url: ``host:port``.
        http_url: As well.
        request: What each sends.
        stack: Closes everything.
        described: Whether the server says what the model reads; else it is known.
    """

    def __init__(
        self,
        grpc_url: str,
        http_url: str,
        request: RankingRequest,
        stack: ExitStack,
        *,
        described: bool = True,
    ) -> None:
        self._described = described
        self._grpc_url, self._stack, self._request = grpc_url, stack, request
        self._http_url = http_url.removeprefix("http://")
        self._tensors = wire_tensors(SIGNATURE)
        self.packed = pack_request(self._tensors, request)
        self._count = request.candidates
        self._loop = asyncio.new_event_loop()
        stack.callback(self._loop.close)

    def all(self) -> dict[str, Callable[[int], list[float]]]:
        """Return them by name; each makes so many calls and returns what each took, seconds."""
        return {
            PLAIN: in_a_row(self.plain_grpc()),
            "raw grpc": in_a_row(self.raw_grpc()),
            "raw http/2": in_a_row(self.raw_http2()),
            "raw grpc.aio": awaited_in_a_row(self._loop, self.raw_aio()),
            "raw http": in_a_row(self.raw_http()),
            "raw shared memory, grpc": in_a_row(self.raw_shared_grpc()),
            "raw shared memory, http": in_a_row(self.raw_shared_http()),
            "tritonclient http": in_a_row(self.plain_http()),
            OFF: in_a_row(self.ours()),
            ON: in_a_row(self.ours(policies=True)),
            "client, no shared memory": in_a_row(self.ours(policies=True, shared_memory="never")),
            "asyncio client, policies on": awaited_in_a_row(self._loop, self.ours_async()),
        }

    def some(self) -> dict[str, Callable[[int], list[float]]]:
        """Return those that a server needs no HTTP and no shared memory for, of threads."""
        return {
            PLAIN: in_a_row(self.plain_grpc()),
            "raw grpc": in_a_row(self.raw_grpc()),
            OFF: in_a_row(self.ours()),
            ON: in_a_row(self.ours(policies=True)),
        }

    def plain_grpc(self) -> Callable[[], Array]:
        """The bare call of ``tritonclient.grpc``, given tensors that are packed already."""
        import tritonclient.grpc as api

        client = api.InferenceServerClient(self._grpc_url)
        self._stack.callback(client.close)
        return lambda: client.infer(MODEL, self._inputs(api)).as_numpy(SCORE)[0]

    def plain_http(self) -> Callable[[], Array]:
        """The same of ``tritonclient.http``."""
        import tritonclient.http as api

        client = api.InferenceServerClient(self._http_url)
        self._stack.callback(client.close)
        return lambda: client.infer(MODEL, self._inputs(api)).as_numpy(SCORE)[0]

    def raw_grpc(self) -> Callable[[], Array]:
        """Prebuilt bytes by gRPC's blocking call; the scores from where they always lie."""
        import grpc

        channel = self._stack.enter_context(grpc.insecure_channel(self._grpc_url))
        call, body, size = channel.unary_unary(_METHOD, None, None), self._body(), 4 * self._count
        return lambda: np.frombuffer(call(body)[-size:], np.float32)

    def raw_http2(self) -> Callable[[], Array]:
        """The same on a connection of the client's own: what all that it does comes on top of."""
        opening, frames = import_module("client.opening"), import_module("client.frames")
        headers = frames.call_headers(self._grpc_url, _METHOD, ())
        connection = opening.opened(self._grpc_url, headers.replace(b"ModelInfer", b"ServerLive"))
        self._stack.callback(connection.close)
        body, size = self._body(), 4 * self._count

        def call() -> Array:
            answer = opening.call(connection, headers, body, _PATIENCE_S).answer()
            return np.frombuffer(answer[-size:], np.float32)

        return call

    def raw_aio(self) -> Callable[[], Awaitable[Array]]:
        """The same by ``grpc.aio``."""
        import grpc

        async def connect() -> Any:
            return grpc.aio.insecure_channel(self._grpc_url)

        channel = self._loop.run_until_complete(connect())
        self._stack.callback(lambda: self._loop.run_until_complete(channel.close()))
        call, body, size = channel.unary_unary(_METHOD, None, None), self._body(), 4 * self._count

        async def ask() -> Array:
            return np.frombuffer((await call(body))[-size:], np.float32)

        return ask

    def raw_http(self) -> Callable[[], Array]:
        """Prebuilt bytes over a socket: HTTP/1.1, kept alive, tensors as Triton's binary data."""
        contents = b"".join(array.tobytes() for array in self.packed.values())
        entries = [
            {
                "name": tensor.name,
                "shape": self.packed[tensor.name].shape,
                "datatype": datatype(tensor),
                "parameters": {"binary_data_size": self.packed[tensor.name].nbytes},
            }
            for tensor in self._tensors
        ]
        output = {"name": SCORE, "parameters": {"binary_data": True}}
        exchange, size = self._http(entries, output, contents), 4 * self._count
        return lambda: np.frombuffer(exchange()[-size:], np.float32)

    def raw_shared_grpc(self) -> Callable[[], Array]:
        """A prebuilt message that says where the tensors lie, by gRPC's blocking call."""
        import grpc
        from tritonclient.grpc import service_pb2

        region, places = self._region()
        message = service_pb2.ModelInferRequest.FromString(self._body())
        message.ClearField("raw_input_contents")
        for entry, place in zip([*message.inputs, *message.outputs], places, strict=True):
            for name, value in place.items():
                kind = "string_param" if isinstance(value, str) else "int64_param"
                setattr(entry.parameters[name], kind, value)
        body = message.SerializeToString()
        channel = self._stack.enter_context(grpc.insecure_channel(self._grpc_url))
        call = channel.unary_unary(_METHOD, None, None)
        return self._through(region, lambda: call(body))

    def raw_shared_http(self) -> Callable[[], Array]:
        """The same over HTTP."""
        region, places = self._region()
        entries = [
            {
                "name": tensor.name,
                "shape": self.packed[tensor.name].shape,
                "datatype": datatype(tensor),
                "parameters": place,
            }
            for tensor, place in zip(self._tensors, places[:-1], strict=True)
        ]
        output = {"name": SCORE, "parameters": places[-1]}
        return self._through(region, self._http(entries, output, b""))

    def ours(self, *, policies: bool = False, shared_memory: str = "auto") -> Callable[[], Array]:
        """`RankerClient`, which checks and packs the request and checks the answer."""
        urls, request = self._urls(policies), self._request
        client = self._client(*urls, policies=policies, shared_memory=shared_memory)
        return lambda: client.rank(request)

    def ours_async(self) -> Callable[[], Awaitable[Array]]:
        """`AsyncRankerClient`."""
        kinds, request = import_module("client"), self._request
        client = kinds.AsyncRankerClient(
            self._urls(True), MODEL, timeout_s=_PATIENCE_S, latencies=True
        )
        self._stack.callback(lambda: self._loop.run_until_complete(client.close()))
        return lambda: client.rank(request)

    def _urls(self, several: bool) -> list[str]:
        """Return one replica, or the same by two names: two connections, and all that is done."""
        port = self._grpc_url.rpartition(":")[2]
        return [f"127.0.0.1:{port}", f"localhost:{port}"] if several else [f"127.0.0.1:{port}"]

    def _client(self, *urls: str, policies: bool, shared_memory: str) -> Any:
        kinds = import_module("client")
        off = kinds.Policies(retry=False, hedge=False, extra_load=0.0)
        options: dict[str, Any] = {"latencies": True} if policies else {"policies": off}
        options |= {"timeout_s": _PATIENCE_S, "shared_memory": shared_memory}
        client = kinds.RankerClient(list(urls), MODEL, **options)
        self._stack.callback(client.close)
        if not self._described:
            client._fleet._description.known = self._model()  # noqa: SLF001
        return client

    def _body(self) -> bytes:
        served = self._model()
        body: bytes = served.body(served.pack(self._request), self._count, _PATIENCE_S)
        return body

    def _model(self) -> Any:
        return import_module("client.served_model").ServedModel(MODEL, SIGNATURE, 1 << 30)

    def _inputs(self, api: Any) -> list[Any]:
        inputs = []
        for tensor in self._tensors:
            array = self.packed[tensor.name]
            each = api.InferInput(tensor.name, array.shape, datatype(tensor))
            each.set_data_from_numpy(array)
            inputs.append(each)
        return inputs

    def _region(self) -> tuple[SharedMemory, list[dict[str, Any]]]:
        """Return a registered region, and where each input and the score lie in it."""
        import tritonclient.grpc as api

        sizes = [array.nbytes for array in self.packed.values()] + [4 * self._count]
        name = f"rankserve_bench_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        region = SharedMemory(create=True, size=sum(sizes), name=name)
        self._stack.callback(region.unlink)
        self._stack.callback(region.close)
        client = api.InferenceServerClient(self._grpc_url)
        self._stack.callback(client.close)
        client.register_system_shared_memory(name, f"/{name}", sum(sizes))
        self._stack.callback(client.unregister_system_shared_memory, name)
        ends = np.cumsum(sizes).tolist()
        places = [
            {
                "shared_memory_region": name,
                "shared_memory_byte_size": size,
                "shared_memory_offset": end - size,
            }
            for size, end in zip(sizes, ends, strict=True)
        ]
        return region, places

    def _through(self, region: SharedMemory, exchange: Callable[[], Any]) -> Callable[[], Array]:
        views, at = [], 0
        for array in self.packed.values():
            views.append((np.ndarray(array.shape, array.dtype, region.buf, at), array))
            at += array.nbytes
        scores = [np.ndarray(self._count, np.float32, region.buf, at)]
        # A view of a closed region would be of nothing, and keep it from closing.
        self._stack.callback(scores.clear)
        self._stack.callback(views.clear)

        def call() -> Array:
            for view, array in views:
                view[:] = array
            exchange()
            return scores[0].copy()

        return call

    def _http(
        self, inputs: list[dict[str, Any]], output: dict[str, Any], contents: bytes
    ) -> Callable[[], bytes]:
        """Return what sends a request and returns the answer's body."""
        head = json.dumps({"inputs": inputs, "outputs": [output]}).encode()
        message = (
            f"POST /v2/models/{MODEL}/infer HTTP/1.1\r\nHost: {self._http_url}\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\n"
            f"Content-Length: {len(head) + len(contents)}\r\n\r\n"
        ).encode() + head
        host, _, port = self._http_url.rpartition(":")
        connection = socket.create_connection((host, int(port)), _PATIENCE_S)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stack.callback(connection.close)
        message += contents
        return lambda: exchange(connection, message)
