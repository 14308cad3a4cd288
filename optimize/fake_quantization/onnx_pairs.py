"""Rounding to int8 as ONNX writes it: QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.fake_quantization.operator import FORMS, quantize_dequantize
from optimize.fake_quantization.translating import types_in
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.export import ExportedProgram


def translations(program: ExportedProgram) -> dict[Any, Callable[..., Any]]:
    """Return what ``torch.onnx.export`` writes for operators of ours, by the operator.

    Raises:
        UserError: The program rounds to fp8.
    """
    if "fp8" in types_in(program):
        # Seen in 1.32: its fusion takes any pair's zero for the least code, as it is in uint8.
        raise UserError(
            "export_onnx takes no layers that quantize_program made fp8: ONNX Runtime drops a ReLU "
            "before an fp8 pair, so no gate could judge them; expected type 'int8', or "
            "torch_tensorrt after it"
        )
    return {quantize_dequantize: _pair}


def _pair(x: Any, amax: Any, num_bits: int, exponent_bits: int) -> Any:
    """Write a pair; exporting folds its scale, and leaves its matrix as floats before it."""
    from onnx import TensorProto, helper
    from onnxscript import opset20

    op: Any = opset20  # its types want what it takes while it runs, and here it writes
    if (num_bits, exponent_bits) != (8, 0):
        raise ValueError("fp8 was refused before")
    scale = op.Div(amax, op.Constant(value_float=FORMS["int8"].most))
    if not len(amax.shape):
        zero = op.Constant(value=helper.make_tensor("zero", TensorProto.INT8, [], [0]))
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero), scale, zero)
    outputs = amax.shape[0]
    scale = op.Squeeze(scale, op.Constant(value_ints=[1]))
    zeros = helper.make_tensor("zeros", TensorProto.INT8, [outputs], [0] * outputs)
    zero = op.Constant(value=zeros)
    codes = op.QuantizeLinear(x, scale, zero, axis=0)
    return op.DequantizeLinear(codes, scale, zero, axis=0)
