"""Values as they will be in 8 bits, as an operator of torch that a program can hold.

It rounds and widens again, so a program with it runs anywhere, in floats. What follows defines it;
TensorRT's and ONNX's QuantizeLinear with DequantizeLinear are the same two steps. Importing this
module registers it. Sources: https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html,
Micikevicius et al., FP8 Formats for Deep Learning, arXiv:2209.05433.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

import optimize.kernels.operators  # noqa: F401 - it defines the namespace

if TYPE_CHECKING:
    from torch import Tensor

Type = Literal["int8", "fp8"]


@dataclass(frozen=True, slots=True)
class Form:
    """A type of 8 bits.

    Attributes:
        exponent_bits: 0 for whole numbers.
        most: The code that stands for the greatest magnitude.
        per_output: Whether a matrix has a scale for each output. TensorRT's products of fp8 take
            one for all of it.
    """

    exponent_bits: int
    most: float
    per_output: bool

    BITS = 8


FORMS: dict[Type, Form] = {
    "int8": Form(0, 127.0, per_output=True),
    "fp8": Form(4, 448.0, per_output=False),
}
_SCHEMA = "(Tensor x, Tensor amax, int num_bits, int exponent_bits) -> Tensor"


def quantize_dequantize_in_torch(
    x: Tensor, amax: Tensor, num_bits: int, exponent_bits: int
) -> Tensor:
    """Round a tensor to 8 bits and widen it again: the operator, in torch's own.

    Args:
        x: Of floats.
        amax: The magnitude that the greatest code stands for, float32 above 0: ``[]``, or
            ``[outputs, 1]`` for a matrix ``[outputs, inputs]``.
        num_bits: 8.
        exponent_bits: 0 is int8: to the nearest of -128 to 127, half to even. 4 is float8 e4m3.

    Returns:
        What ``x`` rounds to, of its shape and dtype; beyond the codes' ends, the ends.
    """
    if num_bits != Form.BITS or exponent_bits not in (0, 4):
        raise ValueError(f"{num_bits} bits, {exponent_bits} of an exponent: expected 8, and 0 or 4")
    wide = x.to(torch.float32)
    if exponent_bits:
        scale = amax / 448.0
        codes = (wide / scale).clamp(-448.0, 448.0).to(torch.float8_e4m3fn).to(torch.float32)
    else:
        scale = amax / 127.0
        codes = (wide / scale).round().clamp(-128.0, 127.0)
    return (codes * scale).to(x.dtype)


def _shape(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x)


# Kept, as what it registered goes with it.
_new_library: Any = torch.library.Library  # torch gives it no types
_LIBRARY = _new_library("rankserve", "FRAGMENT")
_LIBRARY.define(f"quantize_dequantize{_SCHEMA}")
_LIBRARY.impl("quantize_dequantize", quantize_dequantize_in_torch, "CompositeExplicitAutograd")
torch.library.register_fake("rankserve::quantize_dequantize", _shape, lib=_LIBRARY)
quantize_dequantize: Any = torch.ops.rankserve.quantize_dequantize.default
