"""Asking a deployed ranker for scores. Imports NumPy and gRPC, never torch."""

from __future__ import annotations

from client.async_ranker_client import AsyncRankerClient
from client.best_effort import Ranked
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
from client.policies import Degrading, Policies
from client.ranker_client import RankerClient

__all__ = [
    "AsyncRankerClient",
    "ClientForked",
    "DeadlineExceeded",
    "Degrading",
    "InvalidRequest",
    "ModelFailed",
    "ModelNotFound",
    "ModelNotReady",
    "Policies",
    "RankClientError",
    "Ranked",
    "RankerClient",
    "ServerOverloaded",
    "ServerUnreachable",
]
