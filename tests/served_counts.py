"""What a Triton server counts of its work."""

from __future__ import annotations

import time

import numpy as np
from tritonclient.grpc import service_pb2


def executions_of(requests: int, ask, *, client, model: str) -> int:
    """Call ``ask`` and return in how many executions the server answered its requests.

    The server counts an execution after it has sent the answers, so the count may come late.
    """
    before = settled(client, model)
    ask()
    deadline = time.monotonic() + 60
    while True:
        answered, executed = np.subtract(counted(client, model), before)
        if answered >= requests or time.monotonic() > deadline:
            assert answered == requests
            return executed
        time.sleep(0.01)


def settled(client, model):
    counts = counted(client, model)
    while True:
        time.sleep(0.1)
        earlier, counts = counts, counted(client, model)
        if counts == earlier:
            return counts


def counted(client, model) -> tuple[int, int]:
    """Return the numbers of inferences and of executions so far."""
    statistics = client._fleet.endpoints[0].stub.ModelStatistics(
        service_pb2.ModelStatisticsRequest(name=model)
    )
    (model,) = statistics.model_stats
    return model.inference_count, model.execution_count
