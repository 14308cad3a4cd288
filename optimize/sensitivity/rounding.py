"""Dense layers as they compute in few bits, in floats: what rounding does to scores, at no speed.

A layer in int8 has a scale for each output, and its input one for each request, taken as it comes:
what `optimize.stages.quantize_dynamic` makes, with a request for each call. Weights in int4 have a
scale for each 32 inputs of an output, as in weight-only kernels (ONNX's MatMulNBits).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from optimize.sensitivity.layers import Product

LayerWidth = Literal["int8", "int4"]
_GROUP = 32


def rounded_weight(weight: Tensor, width: LayerWidth, *, seven_bits: bool) -> Tensor:
    """Return a matrix as it is read at a width.

    Args:
        weight: float32 ``[outputs, inputs]``.
        width: ``int8``: a scale an output. ``int4``: a scale for each 32 inputs of it.
        seven_bits: Whether int8 weights take 7 bits only, as this CPU may need it.
    """
    if width == "int8":
        return _symmetric(weight, 64 if seven_bits else 127)
    outputs, inputs = weight.shape
    padded = torch.nn.functional.pad(weight, (0, -inputs % _GROUP))
    groups = padded.reshape(outputs, -1, _GROUP)
    return _symmetric(groups, 7).reshape(outputs, -1)[:, :inputs]


def weight_bytes(weight: Tensor, width: LayerWidth) -> int:
    """Return the bytes of a matrix ``[outputs, inputs]`` at a width, scales of float32 included."""
    outputs, inputs = weight.shape
    if width == "int8":
        return outputs * (inputs + 4)
    groups = -(-inputs // _GROUP)
    return outputs * groups * (_GROUP // 2 + 4)


def rounded_input(values: Tensor, product: Product, request: Tensor) -> Tensor:
    """Return a layer's input as uint8 stands for it, with a range of its own for each request.

    Args:
        values: float32, with the rows where the product says; else all share one range.
        product: The layer's.
        request: Of each row, int64 ``[rows]``, ascending.
    """
    place, times = product.rows or (0, 0)
    index = request.repeat_interleave(times)
    if product.rows is None or len(index) != values.shape[place]:
        index, place = torch.zeros(values.shape[0], dtype=torch.int64), 0
    by_row = values.movedim(place, 0).reshape(len(index), -1)
    count = int(index[-1]) + 1
    # The range has zero in it, which is then exactly itself (padding, what ReLU cuts).
    low = torch.zeros(count).scatter_reduce(0, index, by_row.amin(1), "amin")
    high = torch.zeros(count).scatter_reduce(0, index, by_row.amax(1), "amax")
    scale = ((high - low) / 255).clamp_min(torch.finfo(torch.float32).tiny)
    zero = (-low / scale).round()
    shape = [1] * values.dim()
    shape[place] = len(index)
    scales, zeros = scale[index].reshape(shape), zero[index].reshape(shape)
    codes = ((values / scales).round() + zeros).clamp(0, 255)
    return (codes - zeros) * scales


def _symmetric(values: Tensor, highest: int) -> Tensor:
    """Round to whole multiples of a scale, one for all that share the last dimension."""
    largest = values.abs().amax(-1, keepdim=True)
    scale = (largest / highest).clamp_min(torch.finfo(torch.float32).tiny)
    return (values / scale).round().clamp(-highest, highest) * scale
