"""Embedded servers of a model that answers after a known time (`bench.validation.timed_model`).

What they can do is known, instances divided by seconds, and needs next to no core: a drill with
several of them measures a client on a machine of two.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rankers.features import Feature, Signature
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optimize.triton.embedded import RunningServer
    from rankers.requests import Array

MODEL = "timed"
CANDIDATES = 20
_SIGNATURE = Signature((Feature("user", "int64", (), "user"), Feature("x", "float32")))


def timed_requests(count: int, seed: int = 0) -> tuple[list[RankingRequest], list[Array]]:
    """Return requests of the timed model, all different, and the scores of each.

    Args:
        count: Of requests, 20 candidates each.
        seed: Of their values.

    Returns:
        The requests, and float32 ``[20]`` for each.
    """
    scores = list(np.random.default_rng(seed).random((count, CANDIDATES), dtype=np.float32))
    return [RankingRequest({"user": np.array([7])}, {"x": each}) for each in scores], scores


@contextmanager
def served(instances: int, service_s: float) -> Iterator[RunningServer]:
    """Serve the timed model at ports of the system's choice."""
    from optimize.triton.embedded import serve

    with tempfile.TemporaryDirectory(prefix="rankserve-timed-") as name:
        models = Path(name) / "models"
        write_timed_model(models, instances, service_s)
        log_file = Path(name) / "triton.log"
        with serve(models, log_file=log_file, grpc_port=0, http_port=0, metrics_port=0) as server:
            yield server


def write_timed_model(models: Path, instances: int, service_s: float) -> None:
    """Write the model, or its next version, with the queue that `deploy` sets.

    Args:
        models: The repository; the model is called ``timed``.
        instances: That answer at a time.
        service_s: Seconds that an answer takes.
    """
    folder = models / MODEL
    last = max((int(each.name) for each in folder.glob("[0-9]*")), default=0)
    version = folder / str(last + 1)
    version.mkdir(parents=True)
    source = Path(__file__).with_name("timed_model.py").read_text()
    (version / "model.py").write_text(source)
    (folder / "config.pbtxt").write_text(_config(instances, service_s))


def _config(instances: int, service_s: float) -> str:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(
        name=MODEL,
        backend="python",
        max_batch_size=1,
        input=[
            pb.ModelInput(name="user_int64", data_type="TYPE_INT64", dims=[1]),
            pb.ModelInput(name="item_float32", data_type="TYPE_FP32", dims=[-1, 1]),
        ],
        output=[pb.ModelOutput(name="score", data_type="TYPE_FP32", dims=[-1])],
        instance_group=[pb.ModelInstanceGroup(kind="KIND_CPU", count=instances)],
        dynamic_batching=pb.ModelDynamicBatching(
            default_queue_policy=pb.ModelQueuePolicy(
                timeout_action="REJECT",
                default_timeout_microseconds=1_000_000,
                allow_timeout_override=True,
                max_queue_size=128,
            )
        ),
    )
    values = {
        "signature": json.dumps(_SIGNATURE.to_json()),
        "max_candidates": "4096",
        "seconds": str(service_s),
    }
    for key, value in values.items():
        config.parameters[key].string_value = value
    text: str = text_format.MessageToString(config)
    return text
