"""Calls that are waited for as long as a caller allows, and never cancelled.

Triton up to 2.51 at least aborts when an inference is cancelled at the wrong moment, be it by a
passing gRPC deadline: in one of some 300 to 1,400 cancellations here (docs/decisions/008). So the
wait ends at the client alone. The server drops what nobody waits for from its queue by itself, as
every request carries its ``timeout``; what it has begun to compute it would finish in any case.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any

import grpc


class UnhurriedCall:
    """A gRPC method whose calls run to their end, waited for or not.

    Args:
        method: A unary-unary method of a stub.
    """

    def __init__(self, method: Any) -> None:
        self._method = method
        self._left: set[Any] = set()

    def __call__(self, message: Any, timeout_s: float) -> Any:
        """Return the response.

        Raises:
            TimeoutError: It did not come within ``timeout_s`` seconds. Without any time left
                nothing is sent.
            grpc.RpcError: The call failed.
        """
        if timeout_s <= 0:
            raise TimeoutError
        call = self._method.future(message)
        try:
            return call.result(timeout=timeout_s)
        except grpc.FutureTimeoutError as error:
            raise TimeoutError from error
        finally:
            if not call.done():
                # gRPC cancels a call that is garbage.
                self._left.add(call)
                call.add_done_callback(self._left.discard)

    def drain(self, patience_s: float) -> None:
        """Wait until no call is under way any more, or patience ends."""
        deadline = time.monotonic() + patience_s
        for call in tuple(self._left):
            with contextlib.suppress(grpc.RpcError, grpc.FutureTimeoutError):
                call.result(timeout=max(0.0, deadline - time.monotonic()))
