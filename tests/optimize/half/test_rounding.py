"""A graph in 16 bits computes on the CPU what numbers rounded to 16 bits after every step give."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from small_graphs import drawn, make_model, node

from optimize.half.rounding import rounded_twin
from optimize.half.writing import write_half
from optimize.value_types import name_nodes, value_types

NODES = [
    node("MatMul", "x w1", "first"),
    node("Relu", "first", "relu"),
    node("Exp", "relu", "steep"),
    node("Log", "steep", "flat"),
    node("MatMul", "flat w2", "second"),
    node("Add", "second relu", "sum"),
    node("ReduceSum", "sum axis", "score", keepdims=0),
]
W1, W2 = drawn(4, 8), drawn(8, 8, seed=1)
X = np.random.default_rng(2).normal(size=(5, 4)).astype(np.float32)
TYPES = {"fp16": np.float16, "bf16": ml_dtypes.bfloat16}
HALF = {"first", "relu", "second", "sum"}


def written(half, scale=1.0):
    model = make_model(NODES, {"w1": W1 * np.float32(scale), "w2": W2, "axis": np.array([1])})
    write_half(model, value_types(model), HALF, half)
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"x": X})[0]


def rounded_by_hand(half, scale=1.0):
    def r(values):
        return values.astype(TYPES[half]).astype(np.float32)

    with np.errstate(over="ignore", invalid="ignore"):
        relu = r(np.maximum(r(r(X) @ r(W1 * np.float32(scale))), 0))
        second = r(r(np.log(np.exp(relu))) @ r(W2))
        return r(second + relu).sum(1)


@pytest.mark.parametrize("half", TYPES)
def test_the_twin_rounds_after_every_operator_in_16_bits(half):
    scores = run(rounded_twin(written(half)))
    np.testing.assert_allclose(scores, rounded_by_hand(half), rtol=1e-6)


def test_the_graph_itself_is_not_rounded_on_the_cpu_so_its_overflow_would_go_unseen():
    assert not np.isfinite(rounded_by_hand("fp16", 4e4)).all()
    model = written("fp16", 4e4)
    large = make_model(NODES[:2], {"w1": W1 * np.float32(4e4)}, output="relu", shape=("rows", 8))
    write_half(large, value_types(large), {"first", "relu"}, "fp16")
    assert np.abs(run(large)).max() > 65504
    assert not np.isfinite(run(rounded_twin(model))).all()


def test_every_value_has_one_type_and_casts_stand_only_where_it_changes():
    model = written("fp16")
    casts = [x for x in model.graph.node if x.op_type == "Cast"]
    assert [(x.input[0], x.output[0]) for x in casts] == [
        ("x", "x_fp16"),
        ("relu", "relu_fp32"),
        ("flat", "flat_fp16"),
        ("sum", "sum_fp32"),
    ]
    kinds = value_types(model)
    assert kinds["steep"] == kinds["flat"] == kinds["x"] == kinds["score"] == 1
    assert kinds["first"] == kinds["w1_fp16"] == kinds["w2_fp16"] == onnx.TensorProto.FLOAT16


def test_a_weight_that_both_types_read_is_there_in_both():
    nodes = [
        node("MatMul", "x w", "half"),
        node("MatMul", "x w", "full"),
        node("Add", "half full", "score"),
    ]
    model = make_model(nodes, {"w": drawn(4, 4)}, shape=("rows", 4))
    write_half(model, value_types(model), {"half"}, "fp16")
    onnx.checker.check_model(model, full_check=True)
    held = {each.name: each.data_type for each in model.graph.initializer}
    assert held == {"w": onnx.TensorProto.FLOAT, "w_fp16": onnx.TensorProto.FLOAT16}


def test_a_score_made_in_16_bits_leaves_the_graph_as_float32():
    model = make_model(
        [node("Relu", "x", "score"), node("Exp", "score", "more")], shape=("rows", 4)
    )
    write_half(model, value_types(model), {"score"}, "fp16")
    onnx.checker.check_model(model, full_check=True)
    assert value_types(model)["score"] == onnx.TensorProto.FLOAT


def test_nodes_get_names_of_their_own():
    model = make_model([node("Relu", "x", "a"), node("Relu", "a", "score")])
    for each in model.graph.node:
        each.name = "same"
    name_nodes(model)
    assert [each.name for each in model.graph.node] == ["same", "Relu_1"]
