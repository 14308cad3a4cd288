"""Balancing inputs with matrices: what a graph computes stays, and rounding loses less."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.int8.constants import constants_of
from optimize.int8.layers import dense_layers
from optimize.int8.smoothing import smooth_layers

WIDTH = 16
# One channel of the first input is a thousand times as large as the others.
LARGE = 5


def model_of(nodes, **shapes):
    """Return a graph from ``x`` ``[rows, 16]`` to ``y``, with random constants."""
    random = np.random.default_rng(0)
    held = [
        numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", None])],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def layer(kind, x, weight, out):
    if kind == "Gemm":
        return [helper.make_node("Gemm", [x, weight, f"{weight}_b"], [out], name=out, transB=1)]
    return [
        helper.make_node("MatMul", [x, weight], [f"{out}_m"], name=out),
        helper.make_node("Add", [f"{out}_m", f"{weight}_b"], [out]),
    ]


def two_layers(kind):
    nodes = [
        *layer(kind, "x", "w1", "h"),
        helper.make_node("Relu", ["h"], ["a"]),
        *layer(kind, "a", "w2", "y"),
    ]
    first, second = ((32, 16), (8, 32)) if kind == "Gemm" else ((16, 32), (32, 8))
    return model_of(nodes, w1=first, w1_b=(32,), w2=second, w2_b=(8,))


def inputs(count=3, rows=20):
    random = np.random.default_rng(1)
    found = []
    for _ in range(count):
        x = random.standard_normal((rows, WIDTH)).astype(np.float32)
        x[:, LARGE] *= 1000
        found.append({"x": x})
    return found


def run(model, x, names=None):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(names, x)


def smoothed(model, alpha=0.5):
    balanced = onnx.ModelProto()
    balanced.CopyFrom(model)
    found = smooth_layers(balanced, dense_layers(balanced), inputs(), alpha)
    onnx.checker.check_model(balanced)
    return balanced, found


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
class TestWhatIsComputed:
    def test_it_stays_up_to_rounding_though_constants_change(self, kind):
        model = two_layers(kind)
        balanced, found = smoothed(model)
        fresh = {"x": inputs(1, rows=50)[0]["x"] * 1.7}
        (before,), (after,) = run(model, fresh), run(balanced, fresh)
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6 * np.abs(before).max())
        assert set(found.factors) == {"x", "a"}
        for name in ("w1", "w2"):
            assert not np.array_equal(constants_of(balanced)[name], constants_of(model)[name])

    def test_what_a_layer_makes_is_divided_there_and_what_is_given_is_multiplied(self, kind):
        balanced, found = smoothed(two_layers(kind))
        assert found.folded == ("a",)
        assert [node.op_type for node in balanced.graph.node].count("Mul") == 1
        said = "2 inputs balanced (1 by what makes them, 1 by a multiplication)"
        assert found.describe() == said

    def test_the_large_channel_is_divided_by_most(self, kind):
        _, found = smoothed(two_layers(kind))
        factors = found.factors["x"]
        assert factors.argmax() == LARGE
        # Its square root, by which 0.5 divides, to the nearest power of two.
        assert 16 <= factors[LARGE] / np.median(factors) <= 64
        np.testing.assert_array_equal(np.log2(factors), np.round(np.log2(factors)))


class TestWhoElseReads:
    def test_a_value_that_something_else_reads_stays_for_it(self):
        nodes = [
            *layer("Gemm", "x", "w1", "h"),
            *layer("Gemm", "h", "w2", "z"),
            helper.make_node("Concat", ["h", "z"], ["y"], axis=1),
        ]
        model = model_of(nodes, w1=(32, 16), w1_b=(32,), w2=(8, 32), w2_b=(8,))
        balanced, found = smoothed(model)
        assert "h" in found.factors
        assert found.folded == ()
        (x,) = inputs(1)
        np.testing.assert_allclose(run(balanced, x)[0], run(model, x)[0], rtol=1e-5, atol=1e-2)

    def test_layers_of_one_input_share_its_factors(self):
        nodes = [
            helper.make_node(
                "LayerNormalization", ["x", "gain", "shift"], ["n"], axis=-1, name="norm"
            ),
            *layer("Gemm", "n", "w1", "q"),
            *layer("Gemm", "n", "w2", "k"),
            helper.make_node("Mul", ["q", "k"], ["y"]),
        ]
        shapes = {"gain": (16,), "shift": (16,), "w1": (8, 16), "w2": (8, 16)}
        model = model_of(nodes, w1_b=(8,), w2_b=(8,), **shapes)
        balanced, found = smoothed(model)
        assert found.folded == ("n",)
        assert [node.op_type for node in balanced.graph.node] == [
            node.op_type for node in model.graph.node
        ]
        (x,) = inputs(1)
        np.testing.assert_allclose(run(balanced, x)[0], run(model, x)[0], rtol=1e-6, atol=1e-5)

    def test_a_matrix_of_two_layers_is_scaled_for_each_alone(self):
        nodes = [
            *layer("Gemm", "x", "w", "h"),
            helper.make_node("Relu", ["h"], ["a"]),
            *layer("Gemm", "a", "w", "y"),
        ]
        model = model_of(nodes, w=(16, 16), w_b=(16,))
        balanced, _ = smoothed(model)
        (x,) = inputs(1)
        (before,), (after,) = run(model, x), run(balanced, x)
        np.testing.assert_allclose(after, before, rtol=1e-6, atol=1e-6 * np.abs(before).max())
