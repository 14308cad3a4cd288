"""Models on a Triton server, by their address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np

from bench.transports import TRANSPORTS
from rankers.errors import UserError

if TYPE_CHECKING:
    from bench.transports import Transport
    from rankers.features import Signature
    from rankers.requests import Array, RankingRequest, RequestBatch


@dataclass(frozen=True, slots=True, eq=False)
class ServedTarget:
    """A model on a Triton server.

    Attributes:
        name: What reports call it.
        kind: How it is called: a key of `bench.transports.TRANSPORTS`.
        model: The model's name on the server.
        device: Where the server runs it.
        transport: Sends a request and waits for its scores.
        instances: None: the server queues by itself.
    """

    name: str
    kind: str
    model: str
    device: str
    transport: Transport
    instances: int | None = None

    @property
    def signature(self) -> Signature:
        """The model's features."""
        return self.transport.signature

    def prepare(self, request: RankingRequest) -> Any:
        """Do what this transport's caller does before the clock starts."""
        return self.transport.prepare(request)

    def __call__(self, prepared: Any) -> Array:
        """Send the request and wait for its scores."""
        return self.transport(prepared)

    def wire_bytes(self, requests: RequestBatch) -> Array:
        """Return the bytes of each request's tensors and of its scores, int64 ``[R]``."""
        user = sum(each.width * np.dtype(each.dtype).itemsize for each in self.signature.user)
        item = sum(each.width * np.dtype(each.dtype).itemsize for each in self.signature.item)
        sizes: Array = user + requests.candidates * (item + np.dtype(np.float32).itemsize)
        return sizes

    def describe(self) -> dict[str, Any]:
        """Say which model it is. The server's address is not what makes a result."""
        return {
            "name": self.name,
            "kind": self.kind,
            "device": self.device,
            "model": self.model,
            "instances": None,
        }

    def close(self) -> None:
        """Close its connections."""
        self.transport.close()


def open_served(spec: str, *, device: str) -> ServedTarget:
    """Connect to the model at an address.

    Raises:
        UserError: As for `split_address` and `served_target`.
    """
    kind, url, model = split_address(spec)
    return served_target(url, model, device=device, kind=kind)


def served_target(
    url: str, model: str, *, device: str = "cpu", name: str | None = None, kind: str = "grpc"
) -> ServedTarget:
    """Connect to a model on a Triton server at ``host:port``.

    Raises:
        UserError: The server cannot be reached, or has no such model.
    """
    default = f"{model} served" if kind == "grpc" else f"{model} over {kind}"
    return ServedTarget(name or default, kind, model, device, TRANSPORTS[kind](url, model))


def split_address(spec: str) -> tuple[str, str, str]:
    """Split ``grpc://host:port/model`` into kind, ``host:port`` and model.

    Raises:
        UserError: It is not of that form.
    """
    parts = urlsplit(spec)
    model = parts.path.strip("/")
    if parts.scheme not in TRANSPORTS or not parts.netloc or not model or "/" in model:
        raise UserError(
            f"target {spec!r} is not of the form grpc://host:port/model "
            f"(or {', '.join(each + '://' for each in TRANSPORTS if each != 'grpc')})"
        )
    return parts.scheme, parts.netloc, model
