"""Multiply-adds are counted from the shapes of a run."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.user_state.work import multiply_adds


def count(folder, nodes, weight, domain=""):
    """Count those of a graph from ``x [rows, 4]`` to ``y``, with one weight."""
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones(weight, np.float32), "w")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save_model(model, folder / "model.onnx")
    found = multiply_adds(folder / "model.onnx", {"x": np.ones((6, 4), np.float32)})
    assert [each.name for each in folder.iterdir()] == ["model.onnx"]
    return found


@pytest.mark.parametrize(
    ("kind", "attributes", "weight", "expected"),
    [
        ("MatMul", {}, (4, 3), 6 * 4 * 3),
        ("Gemm", {"transB": 1}, (5, 4), 6 * 4 * 5),
        ("Gemm", {"transA": 1}, (6, 5), 4 * 6 * 5),
        ("FusedMatMul", {"transA": 1, "domain": "com.microsoft"}, (6, 2), 4 * 6 * 2),
        ("Add", {}, (4,), 0),
    ],
)
def test_of_a_product(tmp_path, kind, attributes, weight, expected):
    node = helper.make_node(kind, ["x", "w"], ["y"], **attributes)
    assert count(tmp_path, [node], weight) == (expected, ())


def test_of_products_in_a_row_and_in_a_batch(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),  # [2, 6, 4] x of a batch of two weights
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    assert count(tmp_path, nodes, (2, 4, 4)) == (2 * 2 * 6 * 4 * 4, ())


def test_what_multiplies_but_is_not_counted_is_named(tmp_path):
    nodes = [
        helper.make_node("Einsum", ["x", "w"], ["h"], equation="ij,jk->ik"),
        helper.make_node("MatMul", ["h", "w"], ["y"]),
    ]
    assert count(tmp_path, nodes, (4, 4)) == (6 * 4 * 4, ("Einsum",))
