"""The constants of an ONNX graph, whether initializers or nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankers.requests import Array


def constants_of(model: Any, *, most: int | None = None) -> dict[str, Array]:
    """Return a graph's constants by name.

    Args:
        model: An ``onnx.ModelProto`` with its weights.
        most: Leave out those of more values; None leaves none out.
    """
    import math

    from onnx import numpy_helper

    found = {
        each.name: numpy_helper.to_array(each)
        for each in model.graph.initializer
        if most is None or math.prod(each.dims) <= most
    }
    for node in model.graph.node:
        if node.op_type == "Constant":
            for each in node.attribute:
                if each.name == "value":
                    found[node.output[0]] = numpy_helper.to_array(each.t)
    return found


def set_constant(model: Any, name: str, values: Array) -> None:
    """Give an initializer other values, in place; add it if there is none."""
    from onnx import numpy_helper

    made = numpy_helper.from_array(values, name)
    for each in model.graph.initializer:
        if each.name == name:
            each.CopyFrom(made)
            return
    model.graph.initializer.append(made)


def is_transposed(node: Any) -> bool:
    """Whether the matrix of a ``Gemm`` is ``[outputs, K]``."""
    return any(each.name == "transB" and each.i for each in node.attribute)
