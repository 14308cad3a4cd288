"""Asking a deployed ranker for scores. Imports NumPy and gRPC, never torch."""

from __future__ import annotations

from client.errors import (
    ClientForked,
    DeadlineExceeded,
    InvalidRequest,
    ModelFailed,
    ModelNotFound,
    ModelNotReady,
    RankClientError,
    ServerOverloaded,
    ServerUnreachable,
)
from client.ranker_client import RankerClient

__all__ = [
    "ClientForked",
    "DeadlineExceeded",
    "InvalidRequest",
    "ModelFailed",
    "ModelNotFound",
    "ModelNotReady",
    "RankClientError",
    "RankerClient",
    "ServerOverloaded",
    "ServerUnreachable",
]
