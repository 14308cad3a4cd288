"""Asking a deployed ranker for scores. Imports NumPy and gRPC, never torch."""

from __future__ import annotations

from client.async_ranker_client import AsyncRankerClient
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
from client.policies import Policies
from client.ranker_client import RankerClient

__all__ = [
    "AsyncRankerClient",
    "ClientForked",
    "DeadlineExceeded",
    "InvalidRequest",
    "ModelFailed",
    "ModelNotFound",
    "ModelNotReady",
    "Policies",
    "RankClientError",
    "RankerClient",
    "ServerOverloaded",
    "ServerUnreachable",
]
