"""Q/DQ pairs in floats of 8 bits, as TensorRT reads them.

An activation has one scale, a matrix, which is held in 8 bits, one for each output; the zero point
is 0 and tells the type. The library's own pairs take scales from standard deviations and cut what
lies beyond (docs/decisions/034-fp8-by-our-own-pairs.md). Source: "Explicit Quantization",
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.constants import constants_of, is_transposed
from optimize.int8.fp8 import fp8_codes, fp8_scales
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from optimize.int8.pairs import Ends, Task
    from rankers.requests import Array

_LEAST_OPSET = 19  # QuantizeLinear has float8 from there on
_LEAST_IR = 9


def write_fp8_pairs(task: Task, target: Path, ranges: Mapping[str, Ends]) -> None:
    """Write a task's graph with pairs in floats of 8 bits.

    Args:
        task: Whose graph is read; it stays as it is.
        target: The file that is written.
        ranges: Of activations, by name; those without one were always 0.

    Raises:
        UserError: The graph is of an operator set that has no such numbers.
    """
    import onnx

    from optimize.int8.writing import large

    model = onnx.ModelProto()
    model.CopyFrom(task.model)
    opset = next((x.version for x in model.opset_import if x.domain in {"", "ai.onnx"}), 0)
    if opset < _LEAST_OPSET:
        raise UserError(
            f"the graph is of ONNX operator set {opset}, and fp8 needs {_LEAST_OPSET}: "
            f"export_onnx with opset = {_LEAST_OPSET} or more"
        )
    model.ir_version = max(model.ir_version, _LEAST_IR)
    _Pairs(model, ranges).write(task)
    onnx.save_model(
        model, target, save_as_external_data=large(task.path), location=f"{target.name}.data"
    )


class _Pairs:
    def __init__(self, model: Any, ranges: Mapping[str, Ends]) -> None:
        self._model = model
        self._ranges = ranges
        self._constants = constants_of(model)
        self._rounded: dict[tuple[str, int | None], str] = {}  # by value and axis of its scales
        self._nodes: list[Any] = []

    def write(self, task: Task) -> None:
        layers = {each.name for each in task.chosen.quantized}
        products = {each.name: each.product for each in task.adds}
        for node in self._model.graph.node:
            if node.name in layers:
                turned = is_transposed(node)
                node.input[0] = self._activation(node.input[0])
                node.input[1] = self._matrix(node.input[1], 0 if turned else 1)
            elif node.name in products:
                around = 1 - products[node.name]
                node.input[around] = self._activation(node.input[around])
            self._nodes.append(node)
        nodes = [*self._nodes]
        del self._model.graph.node[:]
        self._model.graph.node.extend(nodes)
        self._drop_unread()

    def _activation(self, name: str) -> str:
        if (name, None) not in self._rounded:
            low, high = self._ranges.get(name, (0.0, 0.0))
            scale, zero = self._scales(name, fp8_scales(max(-low, high)))
            self._add("QuantizeLinear", [name, scale, zero], f"{name}_fp8")
            self._add("DequantizeLinear", [f"{name}_fp8", scale, zero], f"{name}_dequantized")
            self._rounded[name, None] = f"{name}_dequantized"
        return self._rounded[name, None]

    def _matrix(self, name: str, outputs: int) -> str:
        if (name, outputs) not in self._rounded:
            values = self._constants[name]
            own = name if (name, 1 - outputs) not in self._rounded else f"{name}_{outputs}"
            scales = fp8_scales(np.abs(values).max(axis=1 - outputs))  # [outputs]
            scale, zero = self._scales(own, scales)
            self._hold(f"{own}_fp8", fp8_codes(values, np.expand_dims(scales, 1 - outputs)))
            held = [f"{own}_fp8", scale, zero]
            self._add("DequantizeLinear", held, f"{own}_dequantized", axis=outputs)
            self._rounded[name, outputs] = f"{own}_dequantized"
        return self._rounded[name, outputs]

    def _scales(self, name: str, scales: Array) -> tuple[str, str]:
        self._hold(f"{name}_scale", scales)
        self._hold(f"{name}_zero_point", fp8_codes(np.zeros_like(scales), scales))
        return f"{name}_scale", f"{name}_zero_point"

    def _hold(self, name: str, values: Array) -> None:
        import onnx

        self._model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        import onnx

        name = f"{output}_{kind}"
        self._nodes.append(onnx.helper.make_node(kind, inputs, [output], name, **attributes))

    def _drop_unread(self) -> None:
        graph = self._model.graph
        read = {name for node in graph.node for name in node.input}
        kept = [each for each in graph.initializer if each.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
