"""What a model reads, asked of its servers once and kept."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import grpc
from tritonclient.grpc import service_pb2

from client.channel import explain
from client.errors import ModelNotFound, RankClientError, ServerUnreachable
from client.served_model import ServedModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from client.members import Endpoint


class Description:
    """The description of one model. Safe to use from threads.

    Args:
        model: Its name.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._reading = threading.Lock()
        self.known: ServedModel | None = None

    def read(
        self,
        endpoints: Callable[[], Iterable[Endpoint]],
        timeout_s: float,
        *,
        instead_of: ServedModel | None = None,
    ) -> ServedModel:
        """Return the description, asking for it if there is none but ``instead_of``.

        Args:
            endpoints: Returns whom to ask, the likeliest to answer first.
            timeout_s: How long each may take.
            instead_of: What is known to be wrong.

        Raises:
            RankClientError: Nobody gave it.
        """
        served = self.known
        if served is not None and served is not instead_of:
            return served
        with self._reading:
            if self.known is None or self.known is instead_of:
                self.known = self._asked(endpoints(), timeout_s)
            return self.known

    def _asked(self, endpoints: Iterable[Endpoint], timeout_s: float) -> ServedModel:
        request = service_pb2.ModelConfigRequest(name=self._model)
        failed: RankClientError | None = None
        for each in endpoints:
            try:
                response = each.stub.ModelConfig(
                    request, timeout=timeout_s, metadata=each.metadata or None
                )
            except grpc.RpcError as error:
                failed = failed or explain(
                    error, each.stub, each.url, self._model, timeout_s, metadata=each.metadata
                )
                continue
            except ValueError:  # it went while it was to be asked
                continue
            if response.config.name != self._model:
                raise ModelNotFound(
                    f"the server at {each.url} described model {response.config.name!r} when "
                    f"asked for {self._model!r}: see what serves there"
                )
            return ServedModel.from_config(response.config, each.url)
        raise failed or ServerUnreachable(f"model {self._model!r}: no server is there: try again")
