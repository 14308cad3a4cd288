"""Weights of dense layers in few bits, multiplied as floats: what a layer reads becomes smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.constants import is_transposed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.int8.layers import DenseLayer
    from rankers.requests import Array


def channel_codes(weights: Array) -> tuple[Array, Array]:
    """Return int8 codes of a matrix and a scale for each of its output channels.

    Args:
        weights: float32 ``[inputs, outputs]``.

    Returns:
        int8 codes of the same shape, from -127 to 127, and float32 scales ``[outputs]``.
    """
    largest = np.abs(weights).max(axis=0)
    scales = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.round(weights / scales).clip(-127, 127).astype(np.int8), scales


def write_channel_codes(model: Any, layers: Sequence[DenseLayer]) -> None:
    """Hold the weights of layers as int8 with a DequantizeLinear before each, in place.

    Standard ONNX, which any runtime reads; one scale for each output channel. Each Gemm among the
    layers becomes a MatMul and an Add, so that all have their channels on one axis.

    Args:
        model: An ``onnx.ModelProto``.
        layers: Of `optimize.int8.layers.dense_layers`.
    """
    import onnx

    wanted = {each.name for each in layers}
    _split_gemms(model, wanted)
    weights = {each.name: each for each in model.graph.initializer}
    nodes, made = [], set()
    for node in model.graph.node:
        if node.name in wanted:
            name = node.input[1]
            floats = f"{name}_floats"
            if floats not in made:
                codes, scales = channel_codes(onnx.numpy_helper.to_array(weights[name]))
                held = (f"{name}_int8", f"{name}_scales")
                model.graph.initializer.extend(
                    onnx.numpy_helper.from_array(array, each)
                    for array, each in zip((codes, scales), held, strict=True)
                )
                nodes.append(
                    onnx.helper.make_node("DequantizeLinear", held, [floats], floats, axis=1)
                )
                made.add(floats)
            node.input[1] = floats
        nodes.append(node)
    _replace_nodes(model, nodes)


def write_blocks(
    model: Any, layers: Sequence[DenseLayer], *, bits: int, block: int, accuracy: int
) -> Any:
    """Return the model with ``MatMulNBits``, ONNX Runtime's operator, for layers.

    Args:
        model: An ``onnx.ModelProto``; it is changed: each Gemm among the layers becomes a MatMul
            and an Add, as the library knows MatMul alone.
        layers: Of `optimize.int8.layers.dense_layers`.
        bits: 4 or 8.
        block: Weights that share a scale: a power of 2 from 16 on.
        accuracy: 0: as the operator likes; 1: multiply in float32; 4: inputs become int8 too.
    """
    import logging

    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    # It says a line of each node that it leaves.
    logging.getLogger(MatMulNBitsQuantizer.__module__).setLevel(logging.WARNING)
    wanted = {each.name for each in layers}
    _split_gemms(model, wanted)
    others = [x.name for x in model.graph.node if x.op_type == "MatMul" and x.name not in wanted]
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=bits,
        block_size=block,
        is_symmetric=True,
        accuracy_level=accuracy or None,
        nodes_to_exclude=others,
        op_types_to_quantize=("MatMul",),
    )
    quantizer.process()
    return quantizer.model.model


def _split_gemms(model: Any, wanted: set[str]) -> None:
    import onnx

    weights = {each.name: each for each in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        if node.name not in wanted or node.op_type != "Gemm":
            continue
        if is_transposed(node):
            turned = f"{node.input[1]}_turned"
            if turned not in weights:
                values = onnx.numpy_helper.to_array(weights[node.input[1]]).T
                model.graph.initializer.append(
                    onnx.numpy_helper.from_array(np.ascontiguousarray(values), turned)
                )
                weights[turned] = model.graph.initializer[-1]
            node.input[1] = turned
        node.op_type = "MatMul"
        del node.attribute[:]
        if len(node.input) > 2 and node.input[2]:
            product, bias, total = f"{node.output[0]}_product", node.input[2], node.output[0]
            node.output[0] = product
            nodes.append(
                onnx.helper.make_node("Add", [product, bias], [total], f"{node.name}_bias")
            )
        del node.input[2:]
    _replace_nodes(model, nodes)


def _replace_nodes(model: Any, nodes: list[Any]) -> None:
    """Give a graph other nodes, and drop the weights that none of them reads any more."""
    held = [*nodes]
    del model.graph.node[:]
    model.graph.node.extend(held)
    read = {name for node in model.graph.node for name in node.input}
    kept = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
