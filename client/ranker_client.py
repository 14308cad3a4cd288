"""The client: a ranking request in, scores out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from client.channel import explain, open_channel, too_late
from client.errors import InvalidRequest, RankClientError
from client.served_model import ServedModel
from client.unhurried import UnhurriedCalls
from rankers.requests import RequestError

if TYPE_CHECKING:
    from types import TracebackType

    from rankers.features import Signature
    from rankers.requests import Array, RankingRequest

# How long closing a client waits for what it no longer waited for.
_DRAIN_S = 5.0


class RankerClient:
    """Asks one model of one server for scores. Safe to use from several threads.

    A request that misses its deadline is left to its end, not cancelled: see `client.unhurried`.

    Args:
        url: The server's gRPC ``host:port``.
        model: The model's name.
        timeout_s: How long one request may take, in the queue and on the way.
    """

    def __init__(self, url: str, model: str, *, timeout_s: float = 1.0) -> None:
        self.url = url
        self.model = model
        self.timeout_s = timeout_s
        self._channel, self._stub = open_channel(url)
        self._calls = UnhurriedCalls(self._channel)
        self._lock = threading.Lock()
        self._served: ServedModel | None = None

    def rank(self, request: RankingRequest, *, timeout_s: float | None = None) -> Array:
        """Return the score of every candidate, float32 ``[N]``.

        Args:
            request: One user and N candidates; labels are not sent.
            timeout_s: For this request, in place of the client's.

        Raises:
            InvalidRequest: The request does not fit the model's features.
            ServerUnreachable, ModelNotFound, ModelNotReady, ServerOverloaded, DeadlineExceeded,
            ModelFailed: As their names say; all are `RankClientError`.
        """
        self._calls.check_process()
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        served = self._described()
        try:
            return self._ask(served, request, timeout_s)
        except InvalidRequest:
            # A version deployed since may have other ID ranges or take more candidates.
            renewed = self._described(instead_of=served)
            if _same(renewed, served):
                raise
            return self._ask(renewed, request, timeout_s)

    def top_k(
        self, request: RankingRequest, k: int, *, timeout_s: float | None = None
    ) -> tuple[Array, Array]:
        """Return the best k candidates, best first; those of equal score in the request's order.

        Args:
            request: As for `rank`.
            k: How many; all of them if there are fewer.
            timeout_s: As for `rank`.

        Returns:
            Their positions in the request, int64 ``[k]``, and their scores, float32 ``[k]``.

        Raises:
            InvalidRequest: k is below 1; and what `rank` raises.
        """
        if k < 1:
            raise InvalidRequest(f"k is {k}; ask for 1 candidate or more")
        scores = self.rank(request, timeout_s=timeout_s)
        order = np.argsort(-scores, kind="stable")[:k]
        return order, scores[order]

    @property
    def signature(self) -> Signature:
        """The model's features and score, as the server states them."""
        return self._described().signature

    def close(self) -> None:
        """Close the channel, when requests that missed their deadline have ended (5 s at most).

        Requests that other threads still wait for fail.
        """
        self._calls.close(_DRAIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ask(self, served: ServedModel, request: RankingRequest, timeout_s: float) -> Array:
        try:
            packed = served.pack(request)
        except RequestError as error:
            raise InvalidRequest(f"model {self.model!r} at {self.url}: {error}") from error
        try:
            body = served.body(packed, request.candidates, timeout_s)
            response = self._calls(body, timeout_s)
        except TimeoutError as error:
            raise too_late(self.url, self.model, timeout_s) from error
        except grpc.RpcError as error:
            raise self._explained(error, timeout_s) from error
        return served.scores(response, request.candidates)

    def _described(self, *, instead_of: ServedModel | None = None) -> ServedModel:
        """Return the model's description, reading it if there is none but ``instead_of``."""
        served = self._served
        if served is not None and served is not instead_of:
            return served
        with self._lock:
            if self._served is None or self._served is instead_of:
                timeout_s = max(self.timeout_s, 5.0)
                try:
                    response = self._stub.ModelConfig(
                        service_pb2.ModelConfigRequest(name=self.model), timeout=timeout_s
                    )
                except grpc.RpcError as error:
                    raise self._explained(error, timeout_s) from error
                self._served = ServedModel.from_config(response.config, self.url)
            return self._served

    def _explained(self, error: grpc.RpcError, timeout_s: float) -> RankClientError:
        return explain(error, self._stub, self.url, self.model, timeout_s)


def _same(one: ServedModel, other: ServedModel) -> bool:
    return (one.signature, one.max_candidates) == (other.signature, other.max_candidates)
