"""A small ranker, its artifact, and measurements of made-up latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.environment import Environment
from bench.latencies import record
from bench.measurement import Counts, Measurement
from bench.workload import draw_workload
from optimize.artifact import Manifest, seal
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.workload import Workload
    from optimize.artifact import Artifact

SIGNATURE = Signature(
    (
        Feature("age", "float32", (), side="user"),
        Feature("price", "float32", (2,), side="item"),
    )
)

# The ranker of these tests: score = age + price[0] - price[1].
RANKER_FILE = """
import numpy as np
import torch
from rankers.features import Feature, Signature
from rankers.ranker import Ranker
from rankers.requests import RequestBatch


class Sum(torch.nn.Module):
    def forward(self, age, price):
        return age + price[:, 0] - price[:, 1]


def ranker():
    rng = np.random.default_rng(0)
    log = RequestBatch(
        user={"age": rng.random(30, dtype=np.float32)},
        items={"price": rng.random((120, 2), dtype=np.float32)},
        offsets=np.arange(0, 121, 4),
        labels=np.tile(np.float32([0, 1]), 60),
    )
    features = (
        Feature("age", "float32", (), side="user"),
        Feature("price", "float32", (2,), side="item"),
    )
    return Ranker("sum", Sum(), Signature(features), log)
"""


@pytest.fixture
def log() -> RequestBatch:
    """Forty requests of 1 to 9 candidates; every price is different."""
    rng = np.random.default_rng(7)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(1, 10, 40))])
    rows = int(offsets[-1])
    return RequestBatch(
        user={"age": rng.random(40, dtype=np.float32)},
        items={"price": rng.permutation(rows * 2).astype(np.float32).reshape(rows, 2)},
        offsets=offsets,
        labels=rng.integers(0, 2, rows).astype(np.float32),
    )


@pytest.fixture
def workload(log) -> Workload:
    return draw_workload(log, candidates=3, distinct=10)


@pytest.fixture
def ranker_file(tmp_path) -> Path:
    path = tmp_path / "ranker_of_the_bench.py"
    path.write_text(RANKER_FILE)
    return path


@pytest.fixture
def artifact(tmp_path) -> Artifact:
    """The same ranker as ONNX."""
    import onnx
    from onnx import TensorProto, helper

    signs = helper.make_tensor("signs", TensorProto.FLOAT, [2, 1], [1.0, -1.0])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [1])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["price", "signs"], ["difference"]),
            helper.make_node("Squeeze", ["difference", "last"], ["flat"]),
            helper.make_node("Add", ["flat", "age"], ["score"]),
        ],
        "sum",
        [
            helper.make_tensor_value_info("age", TensorProto.FLOAT, ["rows"]),
            helper.make_tensor_value_info("price", TensorProto.FLOAT, ["rows", 2]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [signs, last],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    folder = tmp_path / "artifact"
    folder.mkdir()
    onnx.save(model, folder / "model.onnx")
    return seal(folder, Manifest("sum", "onnx", "model.onnx", SIGNATURE))


@pytest.fixture
def machine() -> Environment:
    return Environment(
        machine="0123456789ab",
        cpu="Slide Rule",
        isa=("avx2",),
        physical_cores=2,
        logical_cores=4,
        usable_cores=4,
        cpu_limit=None,
        memory_bytes=8 * 2**30,
        governor=None,
        kernel="Linux 6",
        python="3.12.0",
        versions={"numpy": "2.0"},
        gpu=(),
    )


@pytest.fixture
def make_measurement(machine) -> Callable[..., Measurement]:
    """Make a measurement of given latencies: undisturbed unless told otherwise."""

    def make(latencies_s=None, **changes) -> Measurement:
        if latencies_s is None:
            latencies_s = np.random.default_rng(0).exponential(0.002, 1000)
        values = {
            "target": {"name": "a", "kind": "callable", "device": "cpu", "instances": 1},
            "workload": {"name": "3 candidates"},
            "load": {"mode": "closed", "concurrency": 1, "warmup": 10},
            "response": record(latencies_s),
            "service": record(latencies_s),
            "lag": record(np.empty(0)),
            "counts": Counts(ok=len(latencies_s), candidates=3 * len(latencies_s)),
            "error_messages": (),
            "duration_s": 4.0,
            "environment": machine,
            "steal_share": 0.0,
            "load_average": 0.5,
            "command": "python -m bench run a",
            "timestamp_utc": "2026-01-01T00:00:00+00:00",
        }
        return Measurement(**values | changes)

    return make
