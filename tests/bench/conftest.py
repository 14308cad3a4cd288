"""A small ranker, its artifact, and measurements of made-up latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bench.environment import Environment
from bench.latencies import record
from bench.measurement import Counts, Measurement
from bench.validation.virtual_clock import VirtualClock
from bench.workload import draw_workload
from optimize.artifact import Manifest, seal
from rankers.features import Feature, Signature
from rankers.requests import RequestBatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bench.results_file import Found
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
def virtual_time(monkeypatch) -> VirtualClock:
    """Return a clock that all loads are sent by, of one worker each; a target moves it on."""
    clock = VirtualClock()
    monkeypatch.setattr("bench.load.PreciseClock", lambda: clock)
    return clock


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


@pytest.fixture
def found_of(make_measurement) -> dict[str, Found]:
    """Return something of every kind that a results file holds, of made-up latencies."""
    from bench.capacity_curve import Capacity, Point
    from bench.compare import Comparison, Ratio
    from bench.crossover import Cell, Crossover
    from bench.demo_report import Demo, Variant
    from bench.results_file import Runs
    from bench.slo import parse_slo
    from bench.sweep import Setting, Sweep
    from bench.winners import Winner

    random = np.random.default_rng(3)

    def of(name, mean_s, **changes):
        target = {"name": name, "kind": "callable", "device": "cpu", "instances": 1}
        return make_measurement(random.exponential(mean_s, 800), target=target, **changes)

    def at(rate):
        return {"load": {"mode": "open", "pattern": "poisson", "rate_per_s": rate, "workers": None}}

    turns = (of("a", 0.002), of("b", 0.001))
    ratios = (
        Ratio("b", "a", 0.5, 0.51, 0.45, 0.58, -700.0, -800.0, -600.0, 0.99, 20, None),
        Ratio("b", "a", 0.99, 0.61, 0.35, 1.28, -4000.0, None, 600.0, 0.99, 20, 130),
    )
    comparison = Comparison(turns, ratios)
    slo = parse_slo("p99=20ms")
    points = (
        Point.judged(slo, 100.0, of("a", 0.002, **at(100.0))),
        Point.judged(slo, 140.0, of("a", 0.02, **at(140.0))),
    )
    winners = (Winner(0.5, "b", (), 1.9), Winner(0.99, "b", ("a",), 1.2))
    settings = (Setting(2, 1, 0), Setting(2, 1, 500))
    loaded = of("c, 90 requests/s", 0.004, **at(90.0))
    return {
        "run": Runs(turns),
        "compare": comparison,
        "capacity": Capacity(slo, 100.0, 140.0, points, "a remark"),
        "crossover": Crossover(
            tuple(Cell(count, rate, turns, winners) for rate in (None, 50.0) for count in (1, 100))
        ),
        "sweep": Sweep(
            settings,
            tuple(of(each.name, 0.001 * place) for place, each in enumerate(settings, 1)),
            (Winner(0.5, settings[0].name, (), 2.0),),
        ),
        "demo": Demo(
            {
                "ranker": "tiny",
                "evaluation": {"requests": 10, "rows": 1234},
                "best_auc": 0.8,
                "seconds": 12.5,
            },
            comparison,
            loaded,
            (
                Variant("a", 6_300_000, 0.7811, None, turns[0]),
                Variant("b", 3_100_000, 0.7811, (2e-9, -2e-8, 2e-8), turns[1]),
                Variant("c, 90 requests/s", None, None, None, loaded),
            ),
        ),
    }
