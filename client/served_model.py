"""A model as its server describes it, and the messages that ask it for scores."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import service_pb2

from client.errors import InvalidRequest, ModelFailed, ModelNotFound
from client.packing import Packing
from rankers.features import Signature
from rankers.wire import SCORE

if TYPE_CHECKING:
    from rankers.features import Dtype
    from rankers.requests import Array, RankingRequest

_DATATYPES: dict[Dtype, str] = {
    "int64": "INT64",
    "int32": "INT32",
    "float64": "FP64",
    "float32": "FP32",
    "float16": "FP16",
    "bool": "BOOL",
}


class ServedModel:
    """What a client needs to know of a model. It does not change once it was read.

    Attributes:
        signature: The features and the score.
        max_candidates: The largest request that is answered.
    """

    def __init__(self, name: str, signature: Signature, max_candidates: int) -> None:
        self.signature = signature
        self.max_candidates = max_candidates
        self._packing = Packing(signature)
        # Everything that does not change from request to request is built once.
        self._template = service_pb2.ModelInferRequest(
            model_name=name,
            inputs=[
                service_pb2.ModelInferRequest.InferInputTensor(
                    name=each.name,
                    datatype=_DATATYPES[each.dtype],
                    shape=[1, each.width] if each.side == "user" else [1, 0, each.width],
                )
                for each in self._packing.tensors
            ],
            outputs=[service_pb2.ModelInferRequest.InferRequestedOutputTensor(name=SCORE)],
        )

    @classmethod
    def from_config(cls, config: Any, url: str) -> ServedModel:
        """Read what `optimize.triton.config` wrote into a model's parameters.

        Raises:
            ModelNotFound: Somebody else wrote the config.
        """
        try:
            signature = Signature.from_json(json.loads(config.parameters["signature"].string_value))
            most = int(config.parameters["max_candidates"].string_value)
        except (ValueError, KeyError, TypeError) as error:
            raise ModelNotFound(
                f"model {config.name!r} at {url} was not deployed by rankserve: its config does "
                "not say its features; deploy it with `python -m optimize deploy`"
            ) from error
        return cls(config.name, signature, most)

    def message(self, request: RankingRequest, timeout_s: float) -> Any:
        """Return the request as a ``ModelInferRequest``.

        Raises:
            RequestError: The request does not fit the signature.
            InvalidRequest: It has too many candidates.
        """
        count = request.candidates
        if count > self.max_candidates:
            raise InvalidRequest(
                f"the request has {count} candidates; model {self._template.model_name!r} answers "
                f"{self.max_candidates} at most: split it, or deploy with a larger max_candidates"
            )
        packed = self._packing.pack(request)
        message = service_pb2.ModelInferRequest()
        message.CopyFrom(self._template)
        # The server does not read gRPC's deadline: without this, a request that nobody waits for
        # any more would keep its place in the queue.
        message.parameters["timeout"].int64_param = max(1, round(timeout_s * 1e6))
        for tensor, entry in zip(self._packing.tensors, message.inputs, strict=True):
            if tensor.side == "item":
                entry.shape[1] = count
            message.raw_input_contents.append(packed[tensor.name].tobytes())
        return message

    def scores(self, response: Any, candidates: int) -> Array:
        """Return the scores in a ``ModelInferResponse``, float32 ``[N]``.

        Raises:
            ModelFailed: They are not there, or not as many as candidates.
        """
        raw = response.raw_output_contents[0] if response.raw_output_contents else b""
        if len(raw) != candidates * 4:
            raise ModelFailed(
                f"model {response.model_name!r} answered {candidates} candidates with {len(raw)} "
                f"bytes; expected {candidates * 4}: deploy it again"
            )
        return np.frombuffer(raw, dtype=np.float32).copy()
