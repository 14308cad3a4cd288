"""The dense layers of an ONNX graph, and which of them are quantized."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optimize.artifact import EVIDENCE
from optimize.option_values import names_in
from rankers.errors import UserError
from rankers.ranker import FILES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from optimize.artifact import Artifact

# Quantizing an input and bringing an output back cost as much as a small multiplication saves.
LEAST_WEIGHTS = 1024


@dataclass(frozen=True, slots=True)
class DenseLayer:
    """A multiplication by a constant matrix.

    Attributes:
        name: The node's.
        weight: The name of the matrix.
        inputs: The width of what goes in.
        outputs: The width of what comes out.
        kind: ``MatMul`` or ``Gemm``.
    """

    name: str
    weight: str
    inputs: int
    outputs: int
    kind: str


@dataclass(frozen=True, slots=True)
class ChosenLayers:
    """What is quantized, and what is left and why.

    Attributes:
        quantized: In the graph's order.
        left: By name: the reason.
    """

    quantized: tuple[DenseLayer, ...]
    left: dict[str, str]

    def describe(self) -> str:
        """Say in a line how many layers are quantized and which are left."""
        total = len(self.quantized) + len(self.left)
        left = "; ".join(f"{name} {reason}" for name, reason in self.left.items())
        return f"{len(self.quantized)} of {total} dense layers" + (f" ({left})" if left else "")


def dense_layers(model: Any) -> tuple[DenseLayer, ...]:
    """Return the layers of a graph in order: MatMul and Gemm by a float32 matrix of constants.

    Products of two activations, as in attention, are none: their ranges change with each request.

    Args:
        model: An ``onnx.ModelProto``; nodes without a name get one.
    """
    import onnx

    matrices = {
        each.name: tuple(each.dims)
        for each in model.graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT and len(each.dims) == 2
    }
    found = []
    for place, node in enumerate(model.graph.node):
        if node.op_type not in {"MatMul", "Gemm"} or node.input[1] not in matrices:
            continue
        if node.input[0] in {each.name for each in model.graph.initializer}:
            continue
        settings = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        if settings.get("transA", 0) or any(settings.get(x, 1.0) != 1 for x in ("alpha", "beta")):
            continue
        node.name = node.name or f"{node.op_type}_{place}"
        shape = matrices[node.input[1]]
        inputs, outputs = shape[::-1] if settings.get("transB", 0) else shape
        found.append(DenseLayer(node.name, node.input[1], inputs, outputs, node.op_type))
    return tuple(found)


def choose_layers(
    layers: Sequence[DenseLayer], *, exclude: str = "", keep_last: bool = True
) -> ChosenLayers:
    """Choose the layers to quantize.

    Args:
        layers: In the graph's order.
        exclude: Names of nodes or weights, or patterns of such, separated by commas.
        keep_last: Whether the layer that makes the score stays as it is.

    Raises:
        UserError: A name or pattern in ``exclude`` fits no layer.
    """
    patterns = names_in(exclude)
    for pattern in patterns:
        if not any(_fits(each, pattern) for each in layers):
            names = ", ".join(each.name for each in layers) or "none"
            raise UserError(
                f"exclude names {pattern!r}, which fits no dense layer; they are {names}"
            )
    left = {}
    for place, each in enumerate(layers):
        if any(_fits(each, pattern) for pattern in patterns):
            left[each.name] = "excluded"
        elif keep_last and place == len(layers) - 1:
            left[each.name] = "last"
        elif each.inputs * each.outputs < LEAST_WEIGHTS:
            left[each.name] = f"small, {each.inputs} to {each.outputs}"
    return ChosenLayers(tuple(each for each in layers if each.name not in left), left)


def _fits(layer: DenseLayer, pattern: str) -> bool:
    return fnmatchcase(layer.name, pattern) or fnmatchcase(layer.weight, pattern)


@contextmanager
def opened_model(artifact: Artifact) -> Iterator[tuple[Path, Any]]:
    """Open an artifact's graph in a copy of its own, as a file and an ``onnx.ModelProto``.

    A run's artifacts share files by hard links, and onnx refuses to read weights beside a graph
    from such a file.
    """
    import onnx

    with tempfile.TemporaryDirectory(prefix="int8-") as folder:
        for name in artifact.manifest.files:
            if not name.startswith((f"{EVIDENCE}/", f"{FILES}/")):
                (Path(folder) / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(artifact.folder / name, Path(folder) / name)
        path = Path(folder) / artifact.manifest.model
        yield path, onnx.load(path)
