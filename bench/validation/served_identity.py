"""A real server with a model that computes nothing, and requests to it.

What a call takes is then the way there and back. The model is `bench.validation.identity_model`,
served by two instances without a queue policy: bounded queues stall now and then
(docs/decisions/004), which is none of a client's business.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankers.features import Feature, Signature
from rankers.requests import RankingRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "identity"
MOST_CANDIDATES = 200_000
_IDS = 1_000_000
# 128 bytes a user, 96 bytes a candidate: what a small ranker reads.
SIGNATURE = Signature(
    (
        Feature("user_ids", "int64", (16,), "user", _IDS),
        Feature("item_ids", "int64", (8,), "item", _IDS),
        Feature("x", "float32", (8,)),
    )
)


def make_request(candidates: int, seed: int = 0) -> RankingRequest:
    """Return a request of so many candidates."""
    random = np.random.default_rng(seed)
    return RankingRequest(
        {"user_ids": random.integers(0, _IDS, (1, 16))},
        {
            "item_ids": random.integers(0, _IDS, (candidates, 8)),
            "x": random.random((candidates, 8), np.float32),
        },
    )


def answer_to(request: RankingRequest) -> bytes:
    """Return what the model answers, serialized."""
    from tritonclient.grpc import service_pb2

    answer = service_pb2.ModelInferResponse(model_name=MODEL, model_version="1")
    answer.outputs.add(name="score", datatype="FP32", shape=[1, request.candidates])
    answer.raw_output_contents.append(np.ascontiguousarray(request.items["x"][:, 0]).tobytes())
    serialized: bytes = answer.SerializeToString()
    return serialized


@contextmanager
def served_identity() -> Iterator[Any]:
    """Serve the model on free ports until the block ends."""
    from optimize.triton.embedded import serve

    with tempfile.TemporaryDirectory(prefix="rankserve-identity-") as name:
        models = Path(name) / "models"
        _write(models / MODEL)
        log_file = Path(name) / "triton.log"
        with serve(models, log_file=log_file, grpc_port=0, http_port=0, metrics_port=0) as server:
            yield server


def _write(folder: Path) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2 as pb

    config = pb.ModelConfig(
        name=MODEL,
        backend="python",
        max_batch_size=1,
        input=[
            pb.ModelInput(name="user_int64", data_type="TYPE_INT64", dims=[16]),
            pb.ModelInput(name="item_int64", data_type="TYPE_INT64", dims=[-1, 8]),
            pb.ModelInput(name="item_float32", data_type="TYPE_FP32", dims=[-1, 8]),
        ],
        output=[pb.ModelOutput(name="score", data_type="TYPE_FP32", dims=[-1])],
        instance_group=[pb.ModelInstanceGroup(kind="KIND_CPU", count=2)],
    )
    config.parameters["signature"].string_value = json.dumps(SIGNATURE.to_json())
    config.parameters["max_candidates"].string_value = str(MOST_CANDIDATES)
    version = folder / "1"
    version.mkdir(parents=True)
    source = Path(__file__).with_name("identity_model.py").read_text()
    (version / "model.py").write_text(source)
    (folder / "config.pbtxt").write_text(text_format.MessageToString(config))
