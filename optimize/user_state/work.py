"""How many multiply-adds a graph takes for a request, counted from the shapes of a run."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rankers.requests import Columns

# Products whose first input is [..., inner]: each element written takes so many.
_PRODUCTS = {
    "DynamicQuantizeMatMul", "FusedMatMul", "MatMul", "MatMulInteger", "MatMulIntegerToFloat",
    "MatMulNBits", "QLinearMatMul", "Gemm", "FusedGemm", "QGemm",
}  # fmt: skip
# What else multiplies; said by name, as the count is then too low.
_OTHERS = {
    "Attention", "Conv", "Einsum", "GRU", "GroupQueryAttention", "LSTM", "MultiHeadAttention",
    "QAttention", "RNN",
}  # fmt: skip


def multiply_adds(model: Path, inputs: Columns) -> tuple[int, tuple[str, ...]]:
    """Count those of matrix products in one run.

    Args:
        model: An ONNX model's file.
        inputs: At least what it takes, by name.

    Returns:
        The count, and the operators that multiply too but were not counted.
    """
    import onnx
    import onnxruntime

    graph_only = onnx.load(model, load_external_data=False)
    graph = graph_only.graph
    products = [node for node in graph.node if node.op_type in _PRODUCTS]
    seen = {each.name for each in graph.output}
    weights = {each.name: tuple(each.dims) for each in graph.initializer}
    given = {each.name for each in graph.input}
    for node in products:
        for name in (node.input[0], node.output[0]):
            if name not in seen | weights.keys() | given:
                graph.output.append(onnx.ValueInfoProto(name=name))
                seen.add(name)
    # Beside the model, where its external weights are.
    watched = model.with_suffix(".watched.onnx")
    try:
        onnx.save_model(graph_only, watched)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(watched, options, providers=["CPUExecutionProvider"])
        columns = {each.name: inputs[each.name] for each in session.get_inputs()}
        names = [each.name for each in session.get_outputs()]
        values = session.run(names, columns)
    finally:
        watched.unlink(missing_ok=True)
    shapes: dict[str, Any] = {name: x.shape for name, x in columns.items()}
    shapes |= weights | {name: x.shape for name, x in zip(names, values, strict=True)}
    count = sum(prod(shapes[node.output[0]]) * _inner(node, shapes) for node in products)
    others = sorted({node.op_type for node in graph.node} & _OTHERS)
    return count, tuple(others)


def _inner(node: Any, shapes: dict[str, Any]) -> int:
    """The length of the sums that a product takes."""
    turned = any(each.name == "transA" and each.i for each in node.attribute)
    shape = shapes[node.input[0]]
    size: int = shape[-2 if turned and len(shape) > 1 else -1]
    return size
