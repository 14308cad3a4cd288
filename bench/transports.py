"""Ways to a model on a Triton server, each as a function from request to scores.

Our client is one of them; the others are what else a caller could use, so that they can be
compared: the plain ``tritonclient`` over gRPC, with tensors in shared memory, over HTTP, and
requests that were serialized before the clock started. All send the same tensors.

A `Transport` may be called from several threads.
"""

from __future__ import annotations

import json
import threading
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rankers.errors import UserError
from rankers.features import Signature
from rankers.wire import SCORE, pack_request, wire_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rankers.requests import Array, RankingRequest
    from rankers.wire import WireTensor

# Of one request. A client's own default would cut the tail off and call it an error.
PATIENCE_S = 30.0


class Transport(Protocol):
    """A way to one model.

    Attributes:
        signature: The model's features, as the server states them.
    """

    signature: Signature

    def prepare(self, request: RankingRequest) -> Any:
        """Do what is done before the clock starts."""
        ...

    def __call__(self, prepared: Any) -> Array:
        """Send, and wait for the scores, float32 ``[N]``."""
        ...

    def close(self) -> None:
        """Close connections and free memory."""
        ...


class OurClient:
    """`client.RankerClient`, which checks and packs each request within the timed part."""

    def __init__(self, url: str, model: str) -> None:
        # By name: the bench is there without the client, and pays for its imports only here.
        self._client = import_module("client").RankerClient(url, model, timeout_s=PATIENCE_S)
        try:
            self.signature: Signature = self._client.signature
        except BaseException:
            self._client.close()
            raise

    def prepare(self, request: RankingRequest) -> RankingRequest:
        """Nothing: what the client does to a request is part of what its user waits for."""
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        """Rank the request."""
        scores: Array = self._client.rank(prepared)
        return scores

    def close(self) -> None:
        """Close the channel."""
        self._client.close()


class Prebuilt:
    """Requests as serialized bytes on a bare gRPC channel: the least that a caller can spend."""

    def __init__(self, url: str, model: str) -> None:
        import grpc
        from tritonclient.grpc import service_pb2

        self._channel, stub = import_module("client.channel").open_channel(url)
        self._close = ExitStack()
        self._close.callback(self._channel.close)
        try:
            described = stub.ModelConfig(service_pb2.ModelConfigRequest(name=model), timeout=5.0)
        except grpc.RpcError as error:
            self._channel.close()
            raise UserError(f"no model {model!r} answers at {url}: {error.details()}") from error
        served = import_module("client.served_model").ServedModel
        self._served = served.from_config(described.config, url)
        self.signature: Signature = self._served.signature
        self._infer = infer_bytes(self._channel)

    def prepare(self, request: RankingRequest) -> tuple[bytes, int]:
        """Check, pack and serialize the request."""
        packed = self._served.pack(request)
        return self._served.body(packed, request.candidates, PATIENCE_S), request.candidates

    def __call__(self, prepared: tuple[bytes, int]) -> Array:
        """Send the bytes."""
        body, candidates = prepared
        response = self._infer(body, timeout=PATIENCE_S)
        scores: Array = self._served.scores(response, candidates)
        return scores

    def close(self) -> None:
        """Close the channel."""
        self._close.close()


def infer_bytes(channel: Any) -> Callable[..., Any]:
    """Return Triton's ``ModelInfer`` on a channel, for requests that are serialized already."""
    from tritonclient.grpc import service_pb2

    call: Callable[..., Any] = channel.unary_unary(
        "/inference.GRPCInferenceService/ModelInfer",
        response_deserializer=service_pb2.ModelInferResponse.FromString,
    )
    return call


class PlainGrpc:
    """The plain ``tritonclient.grpc``, used as its documentation shows."""

    def __init__(self, url: str, model: str) -> None:
        import tritonclient.grpc as api

        self._api, self._model = api, model
        self.client = api.InferenceServerClient(url)
        self.signature = _described(
            model, url, lambda: self.client.get_model_config(model, as_json=True)["config"]
        )
        self._tensors = wire_tensors(self.signature)

    def prepare(self, request: RankingRequest) -> RankingRequest:
        """Nothing: packing is part of what a caller waits for."""
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        """Pack the request, and call ``infer``."""
        result = self.client.infer(
            self._model,
            _inputs(self._api, self._tensors, prepared),
            outputs=[self._api.InferRequestedOutput(SCORE)],
            client_timeout=PATIENCE_S,
        )
        scores: Array = result.as_numpy(SCORE)[0]
        return scores

    def close(self) -> None:
        """Close the channel."""
        self.client.close()


class PlainHttp:
    """The plain ``tritonclient.http``: kept-alive connections, tensors as binary.

    Its client belongs to the thread that made it, so there is one for each.
    """

    def __init__(self, url: str, model: str) -> None:
        import tritonclient.http as api

        self._api, self._url, self._model = api, url, model
        self._local = threading.local()
        client = api.InferenceServerClient(url)
        try:
            self.signature = _described(model, url, lambda: client.get_model_config(model))
        finally:
            client.close()
        self._tensors = wire_tensors(self.signature)

    def prepare(self, request: RankingRequest) -> RankingRequest:
        """Nothing: packing is part of what a caller waits for."""
        return request

    def __call__(self, prepared: RankingRequest) -> Array:
        """Pack the request, and call ``infer``."""
        if not hasattr(self._local, "client"):
            self._local.client = self._api.InferenceServerClient(
                self._url, connection_timeout=PATIENCE_S, network_timeout=PATIENCE_S
            )
        result = self._local.client.infer(
            self._model,
            _inputs(self._api, self._tensors, prepared, binary_data=True),
            outputs=[self._api.InferRequestedOutput(SCORE, binary_data=True)],
        )
        scores: Array = result.as_numpy(SCORE)[0]
        return scores

    def close(self) -> None:
        """Nothing: a thread's client goes with its thread."""


def _shared_memory(url: str, model: str) -> Transport:
    from bench.shared_memory import SharedMemory

    return SharedMemory(url, model)


TRANSPORTS: Mapping[str, Callable[[str, str], Transport]] = {
    "grpc": OurClient,
    "prebuilt": Prebuilt,
    "tritonclient": PlainGrpc,
    "http": PlainHttp,
    "shm": _shared_memory,
}
"""By the scheme of a target's address; all but ``http`` take the server's gRPC port."""


def _inputs(
    api: Any, tensors: tuple[WireTensor, ...], request: RankingRequest, **options: Any
) -> list[Any]:
    """Return the request as ``InferInput``s, which the gRPC and the HTTP API have alike."""
    inputs = []
    for tensor, array in zip(tensors, pack_request(tensors, request).values(), strict=True):
        each = api.InferInput(tensor.name, array.shape, datatype(tensor))
        each.set_data_from_numpy(array, **options)
        inputs.append(each)
    return inputs


def datatype(tensor: WireTensor) -> str:
    """Return Triton's name of a tensor's element type."""
    from tritonclient.utils import np_to_triton_dtype

    name: str = np_to_triton_dtype(np.dtype(tensor.dtype).type)
    return name


def _described(model: str, url: str, ask: Callable[[], Any]) -> Signature:
    """Read the signature from a model's config."""
    from tritonclient.utils import InferenceServerException

    try:
        config = ask()
        return Signature.from_json(json.loads(config["parameters"]["signature"]["string_value"]))
    except (InferenceServerException, OSError) as error:
        raise UserError(f"no model {model!r} answers at {url}: {error}") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"model {model!r} at {url} was not deployed by rankserve: its config does not say its "
            "features; deploy it with `python -m optimize deploy`"
        ) from error
