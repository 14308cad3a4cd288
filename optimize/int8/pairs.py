"""Q/DQ pairs by ONNX Runtime's own library: at the inputs and matrices of chosen layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from optimize.int8.form import Int8Form
    from optimize.int8.layers import ChosenLayers
    from optimize.int8.residuals import ResidualAdd
    from rankers.requests import Columns

Ends = tuple[float, float]


@dataclass(frozen=True)
class Task:
    """What is quantized, and by what.

    Attributes:
        path: The graph's file, in a copy of its own.
        model: The same as an ``onnx.ModelProto``.
        chosen: Its layers.
        form: In which they are written.
        inputs: Of calibration requests.
        learnt: Ranges that the graph holds, by the input's name.
        adds: Residual sums of which an input gets a pair.
        tensorrt: Whether pairs stand where TensorRT wants them.
    """

    path: Path
    model: Any
    chosen: ChosenLayers
    form: Int8Form
    inputs: Sequence[Columns]
    learnt: dict[str, Ends]
    adds: tuple[ResidualAdd, ...]
    tensorrt: bool

    def activations(self) -> list[str]:
        """Return the names of the activations that get a pair, without those that learnt one."""
        layers = {each.name for each in self.chosen.quantized}
        around = {each.name: 1 - each.product for each in self.adds}
        names = [
            node.input[around.get(node.name, 0)]
            for node in self.model.graph.node
            if node.name in layers or node.name in around
        ]
        return [name for name in dict.fromkeys(names) if name not in self.learnt]

    def cuts_of_pairs(self) -> list[str]:
        """Return the inputs that their pairs cut where the graph does: of signed ones, evenly."""
        unsigned = self.form.activations == "uint8"
        return [name for name, (low, high) in self.learnt.items() if unsigned or low == -high]


def write_pairs(
    task: Task,
    target: Path,
    *,
    calibrate: Literal["minmax", "percentile", "entropy"],
    percentile: float,
    ranges: Mapping[str, Ends],
) -> None:
    """Write a task's graph with its pairs, in whole numbers of 8 or 4 bits.

    Args:
        task: Whose file is read.
        target: The file that is written.
        calibrate: How the library makes ranges that are not given.
        percentile: Of percentile ranges.
        ranges: That are given, by the activation's name.
    """
    import numpy as np
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    from optimize.int8.calibration import AT_ONCE, calibration_reader
    from optimize.int8.four_bits import matrix_scales
    from optimize.int8.writing import large

    form = task.form
    kinds = ["MatMul", "Gemm"]
    if task.tensorrt:
        kinds.append("Add")  # only those that are named
    extra: dict[str, Any] = {
        "OpTypesToExcludeOutputQuantization": kinds,
        "QuantizeBias": not task.tensorrt,
        "ActivationSymmetric": form.activations == "int8",
        "CalibPercentile": percentile,
        # In parts, or all activations of all requests would be held at once.
        "CalibStridedMinMax": min(AT_ONCE, len(task.inputs)),
        "TensorQuantOverrides": {
            name: [{"rmin": np.float32(low), "rmax": np.float32(high)}]
            for name, (low, high) in ranges.items()
        }
        | (matrix_scales(task.model, task.chosen.quantized) if form.four_bits else {}),
    }
    quantize_static(
        task.path,
        target,
        calibration_reader(task.inputs),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=kinds,
        nodes_to_quantize=[
            *(each.name for each in task.chosen.quantized),
            *(each.name for each in task.adds),
        ],
        per_channel=True,
        reduce_range=form.seven_bits,
        activation_type=QuantType.QInt8 if form.activations == "int8" else QuantType.QUInt8,
        weight_type=QuantType.QInt4 if form.four_bits else QuantType.QInt8,
        calibrate_method={
            "minmax": CalibrationMethod.MinMax,
            "percentile": CalibrationMethod.Percentile,
            "entropy": CalibrationMethod.Entropy,
        }[calibrate],
        use_external_data_format=large(task.path),
        extra_options=extra,
    )
