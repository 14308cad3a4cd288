"""A model as its server describes it, and the requests that ask it for scores."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc import service_pb2

from client.completions import Ended
from client.errors import ModelFailed, ModelNotFound
from client.packing import Packing
from client.request_bytes import KEPT, RequestBytes, varint
from client.shared_regions import room
from rankers.errors import UserError
from rankers.features import Signature
from rankers.wire import SCORE

if TYPE_CHECKING:
    from client.sharing import Share
    from rankers.requests import Array, RankingRequest

# What a config that somebody else wrote, or none at all, may raise while it is read.
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError)
# Values in a row, above which a config is not believed: limits are kept of each.
_MOST_VALUES = 2**24
# ModelInferResponse.raw_output_contents, field 6, length-delimited.
_SCORES = b"\x32"
# Of what comes before the scores.
_KEPT_BYTES = 512


class ServedModel:
    """What a client needs to know of a model. It does not change once it was read.

    Attributes:
        signature: The features and the score.
        max_candidates: The largest request that is answered.
    """

    def __init__(self, name: str, signature: Signature, max_candidates: int) -> None:
        self.signature = signature
        self.max_candidates = max_candidates
        self._name = name
        self._packing = Packing(signature)
        self._bytes = RequestBytes(name, self._packing.tensors)
        # What came before the scores, by the number of candidates, in an answer that was right.
        self._before: dict[int, bytes] = {}

    @classmethod
    def from_config(cls, config: Any, url: str) -> ServedModel:
        """Read what `optimize.triton.config` wrote into a model's parameters.

        Raises:
            ModelNotFound: Somebody else wrote the config.
        """
        try:
            signature = Signature.from_json(json.loads(config.parameters["signature"].string_value))
            most = int(config.parameters["max_candidates"].string_value)
            if most < 1 or sum(each.width for each in signature.features) > _MOST_VALUES:
                raise ValueError(f"max_candidates is {most}")
            return cls(config.name, signature, most)
        except (*_UNREADABLE, UserError) as error:
            raise ModelNotFound(
                f"model {config.name!r} at {url} was not deployed by rankserve: its config does "
                "not say its features; deploy it with `python -m optimize deploy`"
            ) from error

    def pack(self, request: RankingRequest) -> dict[str, Array]:
        """Return the request's tensors: user ``[1, W]``, item ``[N, W]``.

        Raises:
            RequestError: The request does not fit the signature.
        """
        return self._packing.pack(request)

    def split(self, request: RankingRequest) -> list[Question]:
        """Return the request as questions of `max_candidates` at most, in order.

        Raises:
            RequestError: The request does not fit the signature.
        """
        packed, count = self.pack(request), request.candidates
        if count <= self.max_candidates:
            return [Question(self, packed, count)]
        item = {each.name for each in self._packing.tensors if each.side == "item"}
        pieces = -(-count // self.max_candidates)
        ends = [count * each // pieces for each in range(pieces + 1)]
        return [
            Question(
                self,
                {n: tensor[start:end] if n in item else tensor for n, tensor in packed.items()},
                end - start,
            )
            for start, end in pairwise(ends)
        ]

    def body(
        self,
        packed: dict[str, Array],
        candidates: int,
        timeout_s: float,
        share: Share | None = None,
    ) -> bytes:
        """Return packed tensors as a serialized ``ModelInferRequest``.

        Args:
            packed: Of a request of this model.
            candidates: N.
            timeout_s: How long it may wait in the server's queue.
            share: Returns the shared memory that the tensors are to be written to, if any.
        """
        if share is not None:
            region = share(room(each.nbytes for each in packed.values()))
            if region is not None:
                return self._bytes.shared_body(packed, candidates, timeout_s, region)
        return self._bytes.body(packed, candidates, timeout_s)

    def message(self, request: RankingRequest, timeout_s: float) -> Any:
        """Return the request as a ``ModelInferRequest``, for those who alter it.

        Raises:
            RequestError: The request does not fit the signature.
        """
        body = self.body(self.pack(request), request.candidates, timeout_s)
        return service_pb2.ModelInferRequest.FromString(body)

    def read(self, response: bytes, candidates: int) -> Array:
        """Return the scores in a serialized ``ModelInferResponse``, float32 ``[N]``.

        Raises:
            CallFailed: It is none.
            ModelFailed: As `scores` does.
        """
        before = self._before.get(candidates)
        if (
            before is None
            or len(response) != len(before) + 4 * candidates
            or not response.startswith(before)
        ):
            message = Ended(response).inferred()
            scores = self.scores(message, candidates)
            self._keep(response, message, candidates)
            return scores
        return self._finite(np.frombuffer(response, np.float32, candidates, len(before)).copy())

    def _keep(self, response: bytes, message: Any, candidates: int) -> None:
        """Keep what comes before the scores, where they are all that differs between answers.

        An answer with the same bytes before as many scores is the same message but for them.
        """
        (raw, *others), size = message.raw_output_contents, 4 * candidates
        start = _SCORES + varint(size)
        before = response[: len(response) - size]
        short = len(before) < _KEPT_BYTES and len(self._before) < KEPT
        if short and not others and response.endswith(start + raw):
            self._before[candidates] = before

    def scores(self, response: Any, candidates: int) -> Array:
        """Return the scores in a ``ModelInferResponse``, float32 ``[N]``.

        Raises:
            ModelFailed: They are not there, of another type, not as many as candidates, or one is
                not a number.
        """
        outputs, contents = response.outputs, response.raw_output_contents
        places = [place for place, each in enumerate(outputs) if each.name == SCORE]
        if len(places) != 1 or len(contents) <= places[0]:
            names = ", ".join(repr(each.name) for each in outputs) or "nothing"
            raise self._wrong(f"with {names}; expected one output {SCORE!r} in raw bytes")
        output, raw = outputs[places[0]], contents[places[0]]
        if output.datatype != "FP32":
            raise self._wrong(f"with scores of type {output.datatype!r}; expected 'FP32'")
        if math.prod(output.shape) != candidates or any(size < 0 for size in output.shape):
            shape = list(output.shape)
            raise self._wrong(f"{candidates} candidates with scores of shape {shape}")
        if len(raw) != candidates * 4:
            raise self._wrong(
                f"{candidates} candidates with {len(raw)} bytes; expected {candidates * 4}"
            )
        return self._finite(np.frombuffer(raw, dtype=np.float32).copy())

    def _finite(self, scores: Array) -> Array:
        if not np.isfinite(scores).all():
            place = int(np.flatnonzero(~np.isfinite(scores))[0])
            raise ModelFailed(
                f"model {self._name!r}: its score of candidate {place} is {scores[place]}"
            )
        return scores

    def _wrong(self, what: str) -> ModelFailed:
        return ModelFailed(f"model {self._name!r} answered {what}: deploy it again")


@dataclass(frozen=True, slots=True)
class Question:
    """A request, or a part of its candidates, as one call asks it.

    Attributes:
        served: The model.
        packed: The tensors.
        candidates: How many.
    """

    served: ServedModel
    packed: dict[str, Array]
    candidates: int

    def body(self, timeout_s: float, share: Share | None = None) -> bytes:
        """Return the bytes to send, given how long the server may keep them waiting."""
        return self.served.body(self.packed, self.candidates, timeout_s, share)

    def read(self, response: bytes) -> Array:
        """Return the scores in the answer, float32 ``[N]``."""
        return self.served.read(response, self.candidates)
