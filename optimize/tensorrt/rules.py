"""What TensorRT asks of single nodes beyond their types; a function an operator or a few.

Source: the restrictions in https://github.com/onnx/onnx-tensorrt/blob/main/docs/operators.md, and
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_MOST_OF_TOP = 3840


def broken_rules(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    """Say what a node breaks, a clause each.

    Args:
        node: An ``onnx.NodeProto``.
        constants: The graph's constants, as ``onnx.TensorProto``, by name.
    """
    rule = _RULES.get(node.op_type)
    if rule is not None:
        yield from rule(node, constants)


def _quantizes(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    scale = constants.get(node.input[1])
    if scale is None:
        yield "its scale is computed; it must be a constant"
    elif not (_values(scale) > 0).all():
        yield "a scale is not above 0"
    if len(node.input) > 2 and node.input[2]:
        zero = constants.get(node.input[2])
        if zero is None:
            yield "its zero point is computed; it must be a constant 0"
        elif np.any(_values(zero).astype(np.float32) != 0):
            yield "its zero point is not 0: TensorRT quantizes symmetrically"
    if scale is None:
        return
    if node.op_type == "QuantizeLinear" and _values(scale).size > 1:
        of_weights = node.input[0] in constants
        if not of_weights:
            yield "an activation has a scale for each channel; it may have one"


def _axes_known(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    if len(node.input) > 1 and node.input[1] and node.input[1] not in constants:
        what = "axis" if node.op_type == "CumSum" else "axes"
        yield f"its {what} are computed; they must be constants"


def _top(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    if _setting(node, "sorted", 1) != 1:
        yield "sorted is 0; it must be 1"
    count = constants.get(node.input[1])
    if count is not None and int(_values(count).item()) >= _MOST_OF_TOP:
        yield f"K is {int(_values(count).item())}; it must be below {_MOST_OF_TOP}"


def _first_output_only(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    del constants
    if any(node.output[1:]):
        yield "only its first output is supported"


def _no_reduction(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    del constants
    reduction = _setting(node, "reduction", b"none")
    if reduction not in {b"none", "none"}:
        yield f"reduction is {reduction!r}; only none is supported"


def _depth_known(node: Any, constants: Mapping[str, Any]) -> Iterator[str]:
    if node.input[1] not in constants:
        yield "its depth is computed; it must be a constant"


def _values(tensor: Any) -> Any:
    import onnx

    return onnx.numpy_helper.to_array(tensor)


def _setting(node: Any, name: str, default: Any) -> Any:
    import onnx

    found = (onnx.helper.get_attribute_value(each) for each in node.attribute if each.name == name)
    return next(found, default)


_RULES: dict[str, Callable[[Any, Mapping[str, Any]], Iterator[str]]] = {
    "QuantizeLinear": _quantizes,
    "DequantizeLinear": _quantizes,
    "CumSum": _axes_known,
    "Squeeze": _axes_known,
    "Unsqueeze": _axes_known,
    **{f"Reduce{each}": _axes_known for each in _REDUCTIONS},
    "TopK": _top,
    "LayerNormalization": _first_output_only,
    "ScatterND": _no_reduction,
    "OneHot": _depth_known,
}
