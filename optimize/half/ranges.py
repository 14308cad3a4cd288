"""How far a graph's values reach, and what 16 bits would lose of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.value_types import open_light
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from rankers.requests import Array, Columns

LARGEST = 65504.0  # of float16: beyond it is infinity
SMALLEST_NORMAL = 2.0**-14  # of float16: below it digits are lost, below 2^-25 all of them
# Rounding to 11 bits moves values by 2^-11 of themselves at most, by 2.4e-4 usually. What loses
# four times the most has values that underflow.
MOST_LOST = 2.0**-9
_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True)
class Range:
    """How far the values of a tensor reach.

    Attributes:
        largest: The largest magnitude that is finite: infinity stays infinity in 16 bits.
        error: Sum of squares of what rounding to float16 loses.
        squares: Sum of squares of the values.
    """

    largest: float = 0.0
    error: float = 0.0
    squares: float = 0.0

    @property
    def lost(self) -> float:
        """What float16 loses of the values as a share of them, root mean square."""
        return float(np.sqrt(self.error / self.squares)) if self.squares else 0.0

    def joined(self, other: Range) -> Range:
        """Return the range of both."""
        return Range(
            max(self.largest, other.largest),
            self.error + other.error,
            self.squares + other.squares,
        )

    def trouble(self, headroom: float) -> str | None:
        """Say why float16 does not hold these values; None if it does.

        Args:
            headroom: How many times larger than what was seen values may become.
        """
        if self.largest * headroom > LARGEST:
            return f"reaches {self.largest:.3g}"
        if self.lost > MOST_LOST:
            return f"underflows: float16 loses {self.lost:.1%}"
        return None


def range_of(values: Array) -> Range:
    """Return the range of an array of floats."""
    found = Range()
    flat = values.reshape(-1)
    for start in range(0, flat.size, _AT_ONCE):
        part = flat[start : start + _AT_ONCE].astype(np.float64)
        part = part[np.isfinite(part)]
        if part.size:
            largest = float(np.abs(part).max())
            clipped = np.clip(part, -LARGEST, LARGEST)
            error = part - clipped.astype(np.float16)
            found = found.joined(Range(largest, float(error @ error), float(part @ part)))
    return found


def weight_ranges(initializers: Iterable[Any]) -> dict[str, Range]:
    """Return the ranges of a graph's float32 weights, by name."""
    import onnx

    return {
        each.name: range_of(onnx.numpy_helper.to_array(each))
        for each in initializers
        if each.data_type == onnx.TensorProto.FLOAT
    }


def activation_ranges(
    path: Path, types: Mapping[str, int], inputs: Sequence[Columns]
) -> dict[str, Range]:
    """Run a graph on requests and return the ranges of its float32 values, by name.

    Args:
        path: The graph, in a folder that can be written to.
        types: Of its values.
        inputs: For each request, as the graph takes it.

    Raises:
        UserError: ONNX Runtime cannot run the graph.
    """
    import onnx
    import onnxruntime

    model = open_light(path)
    known = {each.name for each in model.graph.output}
    made = [name for node in model.graph.node for name in node.output if name]
    wanted = [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in wanted
        if name not in known
    )
    seen = path.with_name("ranges.onnx")
    onnx.save(model, seen)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: dict[str, Range] = {}
    try:
        session = onnxruntime.InferenceSession(seen, options, providers=["CPUExecutionProvider"])
        for columns in inputs:
            values = dict(zip(wanted, session.run(wanted, columns), strict=True))
            floats = {name: x for name, x in columns.items() if x.dtype == np.float32}
            for name, value in (values | floats).items():
                found[name] = found.get(name, Range()).joined(range_of(value))
    except Exception as error:  # onnxruntime has many kinds of its own
        raise UserError(f"ONNX Runtime cannot run the graph: {error}") from error
    return found
