"""ONNX graphs of a few nodes, made by hand."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper, numpy_helper


def node(kind, inputs, output, **attributes):
    """Make a node called as what it makes; inputs are names with blanks between."""
    return helper.make_node(kind, inputs.split(), [output], name=output, **attributes)


def make_model(nodes, weights=None, *, inputs=None, output="score", shape=("rows",), opset=20):
    """Make a model of float32 inputs ``x [rows, 4]``, or of others by name and type and shape."""
    inputs = inputs or {"x": (TensorProto.FLOAT, ["rows", 4])}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(name, *each) for name, each in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(x), name) for name, x in (weights or {}).items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
        ir_version=9,
    )


def drawn(*shape, seed=0):
    """Draw float32 weights of a layer."""
    values = np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0])
    return values.astype(np.float32)
