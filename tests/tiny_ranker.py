"""A small ONNX ranker made by hand: quick to build, and every feature matters to its score."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from optimize.artifact import Manifest, seal
from rankers.features import Feature, Signature
from rankers.requests import RankingRequest

USERS, ITEMS = 50, 100

SIGNATURE = Signature(
    (
        Feature("item_id", "int64", (), "item", ITEMS),
        Feature("user_id", "int64", (), "user", USERS),
        Feature("history", "int64", (3,), "user", ITEMS),
        Feature("context", "float32", (4,), "user"),
        Feature("price", "float32", (2,), "item"),
    )
)


def make_artifact(folder, *, seed=0, hidden=64, signature=SIGNATURE):
    """Write an ONNX ranker and seal it. A negative first price makes its score NaN."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)

    def weights(name, *shape):
        return numpy_helper.from_array(random.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Gather", ["items", "item_id"], ["item"]),  # [rows, 8]
        helper.make_node("Gather", ["users", "user_id"], ["user"]),  # [rows, 8]
        helper.make_node("Gather", ["items", "history"], ["events"]),  # [rows, 3, 8]
        helper.make_node("ReduceMean", ["events", "axis"], ["past"], keepdims=0),  # [rows, 8]
        helper.make_node("Sqrt", ["price"], ["root"]),
        helper.make_node("Concat", ["item", "user", "past", "context", "root"], ["x"], axis=1),
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "w2"], ["logit"]),
        helper.make_node("Reshape", ["logit", "flat"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["score"]),
    ]
    kinds = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            helper.make_tensor_value_info(each.name, kinds[each.dtype], ["rows", *each.shape])
            for each in SIGNATURE.features
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows"])],
        [
            weights("items", ITEMS, 8),
            weights("users", USERS, 8),
            weights("w1", 30, hidden),
            numpy_helper.from_array(
                (random.normal(size=(hidden, 1)) / hidden).astype(np.float32), "w2"
            ),
            numpy_helper.from_array(np.array([1]), "axis"),
            numpy_helper.from_array(np.array([-1]), "flat"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return seal(folder, Manifest("tiny", "onnx", "model.onnx", signature))


def make_request(random, candidates):
    """Draw a request that fits the signature."""
    return RankingRequest(
        user={
            "user_id": random.integers(0, USERS, 1),
            "history": random.integers(0, ITEMS, (1, 3)),
            "context": random.normal(size=(1, 4)).astype(np.float32),
        },
        items={
            "item_id": random.integers(0, ITEMS, candidates),
            "price": random.random((candidates, 2), dtype=np.float32),
        },
    )
