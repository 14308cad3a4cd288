"""Whether an ONNX graph can become a TensorRT engine, as far as that can be known without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.tensorrt.operators import operators
from optimize.tensorrt.rules import broken_rules
from optimize.value_types import open_light, value_types

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_FLOATS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE")
_MAY_MIX = frozenset({"Cast", "DequantizeLinear", "Pow"})  # the type of one input is free
_AT_THE_EDGE = frozenset({"FLOAT", "FLOAT16", "BFLOAT16", "INT32", "INT64", "BOOL", "UINT8"})
# The input whose type is the operator's, where it is not the first.
_MAIN = {"Where": 1, "OneHot": 2, "NonMaxSuppression": 1}


@dataclass(frozen=True, slots=True)
class Finding:
    """What stands between a graph and an engine.

    Attributes:
        node: The node's or value's name.
        operator: The node's operator; empty for an input or the graph.
        problem: Why TensorRT would not take it.
    """

    node: str
    operator: str
    problem: str

    def __str__(self) -> str:
        """Return one line."""
        kind = f" ({self.operator})" if self.operator else ""
        return f"{self.node}{kind}: {self.problem}"


def check_graph(path: Path) -> tuple[Finding, ...]:
    """Hold an ONNX graph against TensorRT's operators, types and rules.

    Args:
        path: The graph; weights beside it are not read.

    Returns:
        What was found; empty if nothing was. A graph without findings may still be refused, or
        be wrong, by a given version of TensorRT: its scores have to be compared once it is built.
    """
    return tuple(_findings(open_light(path)))


def _findings(model: Any) -> Iterator[Finding]:
    import onnx

    known = operators()
    opset = next((x.version for x in model.opset_import if x.domain in {"", "ai.onnx"}), 0)
    low, high = known.opset
    if not low <= opset <= high:
        yield Finding("graph", "", f"operator set {opset}; TensorRT takes {low} to {high}")
    names = onnx.TensorProto.DataType.Name
    types = {name: names(kind) for name, kind in value_types(model).items()}
    for each in (*model.graph.input, *model.graph.output):
        kind = types.get(each.name, "UNDEFINED")
        if kind not in _AT_THE_EDGE:
            yield Finding(each.name, "", f"an input or output in {kind}, which TensorRT lacks")
    constants = {each.name: each for each in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    functions = {each.name for each in model.functions}
    for place, node in enumerate(model.graph.node):
        name = node.name or f"node {place}"
        for problem in _of_node(node, types, constants, functions):
            yield Finding(name, node.op_type, problem)


def _of_node(
    node: Any, types: Mapping[str, str], constants: Mapping[str, Any], functions: set[str]
) -> Iterator[str]:
    if node.op_type in functions:
        return
    if node.domain not in {"", "ai.onnx"}:
        yield f"an operator of {node.domain}: leave out optimize_onnx, or take its level 'basic'"
        return
    supported = operators().types.get(node.op_type)
    if supported is None:
        yield f"TensorRT {operators().version} does not have this operator"
        return
    yield from _wrong_types(node, types, supported)
    floats = {types.get(name, "") for name in node.input} & {*_FLOATS}
    if len(floats) > 1 and node.op_type not in _MAY_MIX:
        mixed = " and ".join(sorted(floats))
        yield f"mixes {mixed}: a strongly typed network wants a Cast before it"
    yield from broken_rules(node, constants)


def _wrong_types(node: Any, types: Mapping[str, str], supported: frozenset[str]) -> Iterator[str]:
    place = _MAIN.get(node.op_type, 0)
    if place < len(node.input):
        # What an operator of a runtime makes has no known type; that operator is named itself.
        kind = types.get(node.input[place])
        if kind is not None and kind not in supported:
            yield f"reads {kind}; TensorRT takes {_listed(supported)} here{_advice(node, kind)}"
    if node.op_type == "QuantizeLinear":
        supported = operators().types["DequantizeLinear"]
    elif node.op_type not in {"Cast", "Constant", "ConstantOfShape"}:
        return
    kind = types.get(node.output[0])
    if kind is not None and kind not in supported:
        yield f"makes {kind}; TensorRT takes {_listed(supported)} here{_advice(node, kind)}"


def _advice(node: Any, kind: str) -> str:
    if kind == "UINT8" and node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
        return ": quantize_static with placement = 'tensorrt'"
    if node.op_type == "DequantizeLinear" and kind == "INT32":
        return ": a quantized bias; quantize_static with placement = 'tensorrt' leaves it"
    if kind in {"INT8", "UINT8"} and node.op_type in {"Gather", "Cast"}:
        return ": leave out quantize_tables; half_precision puts tables into fp16"
    return ""


def _listed(types: frozenset[str]) -> str:
    return ", ".join(sorted(types))
