"""Operators on whole numbers that TensorRT lacks, by others that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.value_types import value_types

if TYPE_CHECKING:
    from collections.abc import Mapping


def rewrite_operators(model: Any) -> list[str]:
    """Rewrite what TensorRT does not take of whole numbers, in place.

    ``Clip`` becomes ``Max`` and ``Min``; ``CumSum`` is done in float32, which is exact up to 2^24.

    Args:
        model: An ``onnx.ModelProto``.

    Returns:
        What was rewritten, a name each.
    """
    import onnx

    types = value_types(model)
    whole = {int(onnx.TensorProto.INT32), int(onnx.TensorProto.INT64)}
    nodes, rewritten = [], []
    for node in model.graph.node:
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is None or types.get(node.input[0]) not in whole:
            nodes.append(node)
            continue
        nodes += rewrite(node, types)
        rewritten.append(node.name or node.output[0])
    if rewritten:
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    return rewritten


def _clip(node: Any, types: Mapping[str, int]) -> list[Any]:
    import onnx

    del types
    bounds = [
        (kind, name)
        for kind, name in zip(("Max", "Min"), node.input[1:], strict=False)
        if name  # both are optional
    ] or [("Identity", "")]
    made, value = [], node.input[0]
    for place, (kind, bound) in enumerate(bounds):
        last = place == len(bounds) - 1
        result = node.output[0] if last else f"{node.output[0]}_{kind}"
        given = [value, bound] if bound else [value]
        made.append(onnx.helper.make_node(kind, given, [result], f"{node.name}_{kind}"))
        value = result
    return made


def _cumulative_sum(node: Any, types: Mapping[str, int]) -> list[Any]:
    import onnx

    numbers, result = node.input[0], node.output[0]
    floats, total = f"{result}_floats", f"{result}_total"
    summed = onnx.NodeProto()
    summed.CopyFrom(node)  # with its axis, and how it sums
    summed.input[0], summed.output[0] = floats, total
    to_floats = onnx.helper.make_node(
        "Cast", [numbers], [floats], f"{node.name}_floats", to=onnx.TensorProto.FLOAT
    )
    back = onnx.helper.make_node("Cast", [total], [result], f"{node.name}_back", to=types[numbers])
    return [to_floats, summed, back]


_REWRITES = {"Clip": _clip, "CumSum": _cumulative_sum}
