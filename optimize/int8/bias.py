"""What rounding adds to a layer's outputs on average, taken off its bias.

Rounding a matrix moves all products by it the same way for inputs of the same mean: an error that
does not average out over rows. Source: Nagel et al., Data-Free Quantization through Weight
Equalization and Bias Correction, arXiv:1906.04721, section 4.2, with means from calibration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.constants import constants_of, is_transposed, set_constant
from optimize.int8.fp8 import fp8_codes, is_fp8
from optimize.int8.observing import observed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optimize.int8.layers import DenseLayer
    from rankers.requests import Array, Columns


def correct_biases(
    quantized: Any,
    original: Any,
    layers: Sequence[DenseLayer],
    inputs: Sequence[Columns],
    *,
    large: bool = False,
) -> int:
    """Add to biases what the layers' outputs lack on average, in place.

    Args:
        quantized: An ``onnx.ModelProto`` with Q/DQ pairs at the layers' inputs and matrices.
        original: The graph that it was made from, with the same names.
        layers: Of both.
        inputs: Of calibration requests.
        large: Whether weights need a file beside the graph.

    Returns:
        How many layers were corrected.
    """
    floats, codes = constants_of(original), constants_of(quantized)
    reads = {node.name: node for node in original.graph.node}
    reading = {node.name: node for node in quantized.graph.node}
    makers = {name: node for node in quantized.graph.node for name in node.output}
    pairs = {
        each.name: pair
        for each in layers
        if (pair := _pair(reading.get(each.name), makers)) is not None
    }
    if not pairs:
        return 0
    names = {each: reads[each].input[0] for each in pairs}
    means: dict[str, Array] = {}
    for values in observed(original, {*names.values()}, inputs, large=large):
        for layer, name in names.items():
            x = values[name].reshape(-1, values[name].shape[-1])  # [rows, K]
            rounded = _dequantized(_quantized(x, pairs[layer][0], codes), pairs[layer][0], codes)
            both = np.stack([x.mean(axis=0), rounded.mean(axis=0)]).astype(np.float64)
            means[layer] = means.get(layer, 0) + both / len(inputs)
    for layer, (_, matrix) in pairs.items():
        exact = floats[reads[layer].input[1]]
        coarse = _dequantized(codes[matrix.input[0]], matrix, codes)
        if is_transposed(reads[layer]):
            exact, coarse = exact.T, coarse.T
        lacks = means[layer][0] @ exact - means[layer][1] @ coarse  # [outputs]
        _add_to_bias(quantized, reading[layer], makers, lacks.astype(np.float32))
    return len(pairs)


def _pair(node: Any | None, makers: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """Return the DequantizeLinear of a layer's input and of its matrix; None if it has none."""
    if node is None:
        return None
    x, matrix = (makers.get(name) for name in node.input[:2])
    if x is None or matrix is None:
        return None
    return (x, matrix) if x.op_type == matrix.op_type == "DequantizeLinear" else None


def _quantized(x: Array, pair: Any, constants: Mapping[str, Array]) -> Array:
    scale, zero = constants[pair.input[1]], constants[pair.input[2]]
    if is_fp8(zero):
        return fp8_codes(x, scale)
    kind = np.iinfo(zero.dtype)
    found: Array = np.clip(np.round(x / scale) + zero.astype(np.float32), kind.min, kind.max)
    return found


def _dequantized(codes: Array, pair: Any, constants: Mapping[str, Array]) -> Array:
    """Return floats of whole numbers, with a scale for all or for each of a dimension."""
    scale = constants[pair.input[1]]
    zero = constants[pair.input[2]] if len(pair.input) > 2 else np.zeros_like(scale)
    if scale.ndim:
        axis = next((each.i for each in pair.attribute if each.name == "axis"), 1)
        shape = [1] * codes.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    found: Array = (codes.astype(np.float32) - zero.astype(np.float32)) * scale
    return found


def _add_to_bias(model: Any, node: Any, makers: Mapping[str, Any], lacks: Array) -> None:
    """Add to a layer's bias where it has one of its own, else behind the layer."""
    import onnx

    constants = constants_of(model)
    if node.op_type == "Gemm" and len(node.input) == 3:
        pair = makers.get(node.input[2])
        if pair is None and _add(model, node.input[2], constants, lacks):
            return
        if pair is not None:  # a bias in 32 bits
            scale = constants[pair.input[1]].astype(np.float64)
            if _add(model, pair.input[0], constants, np.round(lacks / scale).astype(np.int32)):
                return
    readers = [each for each in model.graph.node if node.output[0] in each.input]
    if len(readers) == 1 and readers[0].op_type == "Add":
        for name in readers[0].input:
            if _add(model, name, constants, lacks):
                return
    output = node.output[0]
    node.output[0] = f"{output}_uncorrected"
    set_constant(model, f"{output}_correction", lacks)
    added = onnx.helper.make_node("Add", [node.output[0], f"{output}_correction"], [output])
    model.graph.node.insert([*model.graph.node].index(node) + 1, added)


def _add(model: Any, name: str, constants: Mapping[str, Array], values: Array) -> bool:
    """Add to a constant of the same shape that one node reads; whether it is such a one."""
    held = constants.get(name)
    if held is None or held.shape != values.shape:
        return False
    if sum(name in each.input for each in model.graph.node) != 1:
        return False
    set_constant(model, name, np.asarray(held + values, held.dtype))
    return True
