"""A small ONNX ranker with each kind of multiplication: Gemm, MatMul, and of two activations."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optimize.artifact import Manifest, seal
from rankers.features import Feature, Signature
from rankers.requests import ITEM_TO_REQUEST

SIGNATURE = Signature(
    (
        Feature("item_id", "int64", (), "item", 100),
        Feature("context", "float32", (16,), "user"),
        Feature("price", "float32", (8,), "item"),
    )
)


def make_artifact(folder, *, layout="flat", weights_beside=False, seed=0):
    """Write the ranker and seal it.

    Args:
        folder: Made.
        layout: ``flat`` or ``user_once``.
        weights_beside: Whether they lie in a file of their own.
        seed: Of the weights.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)

    def constant(name, values, dtype=np.float32):
        return numpy_helper.from_array(np.asarray(values, dtype), name)

    def weights(name, *shape):
        return constant(name, random.normal(size=shape) / np.sqrt(shape[-1]))

    user = "context"
    nodes = []
    if layout == "user_once":
        nodes.append(helper.make_node("Gather", ["context", ITEM_TO_REQUEST], ["contexts"]))
        user = "contexts"
    nodes += [
        helper.make_node("Gather", ["items", "item_id"], ["item"]),  # [rows, 8]
        helper.make_node("Concat", ["item", user, "price"], ["x"], axis=1),  # [rows, 32]
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h1"], name="first", transB=1),
        helper.make_node("Relu", ["h1"], ["a1"]),  # [rows, 64]
        helper.make_node("MatMul", ["a1", "w2"], ["h2"], name="second"),  # [rows, 48]
        helper.make_node("Relu", ["h2"], ["a2"]),
        helper.make_node("Reshape", ["a2", "row"], ["query"]),  # [rows, 1, 48]
        helper.make_node("Reshape", ["h2", "column"], ["key"]),  # [rows, 48, 1]
        helper.make_node("MatMul", ["query", "key"], ["attention"], name="attention"),
        helper.make_node("Reshape", ["attention", "flat"], ["dots"]),  # [rows]
        helper.make_node("MatMul", ["a2", "w3"], ["h3"], name="third"),  # [rows, 1]
        helper.make_node("Reshape", ["h3", "flat"], ["logits"]),
        helper.make_node("Mul", ["dots", "little"], ["less"]),
        helper.make_node("Add", ["logits", "less"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    side = {"user": "users" if layout == "user_once" else "rows", "item": "rows"}
    inputs = [
        helper.make_tensor_value_info(each.name, kinds[each.dtype], [side[each.side], *each.shape])
        for each in SIGNATURE.features
    ]
    if layout == "user_once":
        inputs.append(helper.make_tensor_value_info(ITEM_TO_REQUEST, TensorProto.INT64, ["rows"]))
    graph = helper.make_graph(
        nodes,
        "dense",
        inputs,
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [
            weights("items", 100, 8),
            weights("w1", 64, 32),
            weights("b1", 64),
            weights("w2", 64, 48),
            weights("w3", 48, 1),
            constant("little", 0.01),
            constant("row", [-1, 1, 48], np.int64),
            constant("column", [-1, 48, 1], np.int64),
            constant("flat", [-1], np.int64),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save_model(
        model,
        folder / "model.onnx",
        save_as_external_data=weights_beside,
        location="model.onnx.data",
        size_threshold=0,
    )
    return seal(folder, Manifest("dense", "onnx", "model.onnx", SIGNATURE, layout=layout))
