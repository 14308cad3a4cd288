"""What is seen of a user's part before the cut is believed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize.artifact import Manifest, seal
from optimize.build import run_stage
from optimize.user_state import halves
from rankers.errors import UserError
from rankers.features import Feature, Signature

SIGNATURE = Signature(
    (Feature("age", "float32", (3,), "user"), Feature("price", "float32", (), "item"))
)


def artifact(folder, nodes):
    """Seal a user-once ranker of a user's three numbers and an item's price."""
    folder.mkdir()
    inputs = [
        helper.make_tensor_value_info("age", TensorProto.FLOAT, ["users", 3]),
        helper.make_tensor_value_info("price", TensorProto.FLOAT, ["rows"]),
        helper.make_tensor_value_info("item_to_request", TensorProto.INT64, ["rows"]),
    ]
    constants = [numpy_helper.from_array(np.array(x), name) for name, x in (("0", [0]), ("1", [1]))]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])
    graph = helper.make_graph(nodes, "ranker", inputs, [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, folder / "model.onnx")
    manifest = Manifest("ages", "onnx", "model.onnx", SIGNATURE, layout="user_once")
    return seal(folder, manifest)


def ranker(reduced):
    """Sum ages over a dimension, pick by request, and add the price."""
    return [
        helper.make_node("ReduceSum", ["age", reduced], ["total"], keepdims=0),
        helper.make_node("Gather", ["total", "item_to_request"], ["own"]),
        helper.make_node("Add", ["own", "price"], ["score"]),
    ]


def test_a_row_for_each_user_is_kept(tmp_path):
    made = run_stage("user_state", {}, artifact(tmp_path / "whole", ranker("1")), tmp_path)
    assert "4 bytes of a user can be kept" in made.manifest.notes[-1]


def test_a_value_without_a_row_for_each_user_is_refused_with_its_shapes(tmp_path):
    whole = artifact(tmp_path / "whole", ranker("0"))
    with pytest.raises(UserError, match=r"'total' has the shape \(3,\) for 3 users and \(3,\)"):
        run_stage("user_state", {}, whole, tmp_path)


def test_parts_that_score_otherwise_than_the_whole_are_refused(tmp_path, monkeypatch):
    whole = artifact(tmp_path / "whole", ranker("1"))
    cut = halves.cut.candidates_model

    def wrong(*given):
        made = cut(*given)
        made.graph.node[-1].op_type = "Sub"
        return made

    monkeypatch.setattr(halves.cut, "candidates_model", wrong)
    with pytest.raises(UserError, match="the parts' scores differ by"):
        run_stage("user_state", {}, whole, tmp_path)
    assert not list(tmp_path.glob("user_state-*"))


def test_large_weights_go_beside_both_graphs(tmp_path, monkeypatch):
    monkeypatch.setattr(halves, "_PROTOBUF_LIMIT_BYTES", 1000)
    weight = numpy_helper.from_array(np.ones((3, 300), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["age", "w"], ["wide"]),
        helper.make_node("Gather", ["wide", "item_to_request"], ["own"]),
        helper.make_node("MatMul", ["own", "turned"], ["narrow"]),
        helper.make_node("ReduceSum", ["narrow", "1"], ["total"], keepdims=0),
        helper.make_node("Add", ["total", "price"], ["score"]),
    ]
    source = artifact(tmp_path / "small", ranker("1"))
    model = onnx.load(source.model_path)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    turned = numpy_helper.from_array(np.ones((300, 3), np.float32), "turned")
    model.graph.initializer.extend([weight, turned])
    (tmp_path / "whole").mkdir()
    onnx.save_model(model, tmp_path / "whole" / "model.onnx")
    made = run_stage("user_state", {}, seal(tmp_path / "whole", source.manifest), tmp_path)
    assert {"user.onnx.data", "candidates.onnx.data"} <= set(made.manifest.files)
    assert made.model_bytes > 2 * 3 * 300 * 4
