"""Whole numbers are clipped and added up by what TensorRT takes, with the same results."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto
from small_graphs import make_model, node

from optimize.artifact import Manifest, seal
from optimize.stages import make_stage
from optimize.tensorrt.preflight import check_graph
from optimize.tensorrt.rewriting import rewrite_operators
from optimize.value_types import value_types
from rankers.features import Feature, Signature

WHOLE = {"x": (TensorProto.INT64, ["rows", 4])}
X = np.array([[3, -2, 7, 0], [1, 1, -9, 5]])
CONSTANTS = {"low": np.int64(-1), "high": np.int64(4), "axis": np.int64(1)}


def as_score(*nodes):
    return make_model(
        [*nodes, node("Cast", nodes[-1].output[0], "score", to=TensorProto.FLOAT)],
        CONSTANTS,
        inputs=WHOLE,
        shape=("rows", 4),
    )


def run(model):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": X})[0]


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([node("Clip", "x low high", "y")], np.clip(X, -1, 4)),
        ([onnx.helper.make_node("Clip", ["x", "", "high"], ["y"], "y")], np.minimum(X, 4)),
        ([node("Clip", "x low", "y")], np.maximum(X, -1)),
        ([node("Clip", "x", "y")], X),
        ([node("CumSum", "x axis", "y")], np.cumsum(X, 1)),
        (
            [node("CumSum", "x axis", "y", exclusive=1, reverse=1)],
            np.cumsum(X[:, ::-1], 1)[:, ::-1] - X,
        ),
    ],
)
def test_results_are_the_same(nodes, expected, tmp_path):
    model = as_score(*nodes)
    assert rewrite_operators(model) == ["y"]
    onnx.checker.check_model(model, full_check=True)
    np.testing.assert_array_equal(run(model), expected)
    onnx.save(model, tmp_path / "model.onnx")
    assert check_graph(tmp_path / "model.onnx") == ()


def test_a_sum_keeps_its_type():
    nodes = [
        node("Cast", "x", "narrow", to=TensorProto.INT32),
        node("CumSum", "narrow axis", "sum"),
        node("Cast", "sum", "score", to=TensorProto.FLOAT),
    ]
    model = make_model(nodes, CONSTANTS, inputs=WHOLE, shape=("rows", 4))
    rewrite_operators(model)
    assert value_types(model)["sum"] == TensorProto.INT32


def test_floats_stay_as_they_are():
    nodes = [node("CumSum", "x axis", "sum"), node("Clip", "sum", "score")]
    model = make_model(nodes, {"axis": np.int64(1)}, shape=("rows", 4))
    before = model.SerializeToString()
    assert rewrite_operators(model) == []
    assert model.SerializeToString() == before


def test_the_stage_says_what_it_rewrote_and_copies_a_graph_that_has_none(tmp_path):
    signature = Signature((Feature("x", "int64", (4,), "item"),))
    for nodes, said in (
        (
            [node("CumSum", "x axis", "y")],
            ("tensorrt_operators: y by operators that TensorRT takes",),
        ),
        ([node("Add", "x axis", "y")], ()),
    ):
        folder = tmp_path / nodes[0].op_type
        made = folder / "made"
        made.mkdir(parents=True)
        onnx.save(as_score(*nodes), folder / "model.onnx")
        artifact = seal(folder, Manifest("small", "onnx", "model.onnx", signature))
        manifest = make_stage("tensorrt_operators", {}).run(artifact, made)
        assert manifest.notes == said
        np.testing.assert_array_equal(run(onnx.load(made / "model.onnx")), run(as_score(*nodes)))
