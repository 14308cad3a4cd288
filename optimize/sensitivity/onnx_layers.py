"""Which dense layers of an ONNX graph are which of the module's.

Exporting renames matrices, turns them and folds the turning; `user_once` cuts them by their inputs.
So they are told by what is in them: the columns of a matrix, each the weights of one input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.layers import DenseLayer, dense_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.sensitivity.layers import Layer
    from rankers.requests import Array


def layers_in(model: Any, layers: Sequence[Layer]) -> list[tuple[DenseLayer, str | None]]:
    """Return the dense layers of a graph in order, each with the name of the module's.

    Args:
        model: An ``onnx.ModelProto`` with its weights; nodes without a name get one.
        layers: Of the program that it was exported from.

    Returns:
        The name is None for a layer that holds other numbers than any of the program's.
    """
    known = {each.name: _columns(each.weight.numpy()) for each in layers}
    found = []
    for each in dense_layers(model):
        columns = _columns(_matrix(model, each))
        names = [name for name, held in known.items() if columns <= held]
        found.append((each, names[0] if names else None))
    return found


def _matrix(model: Any, layer: DenseLayer) -> Array:
    """Return a layer's matrix as ``[outputs, inputs]``."""
    from onnx import helper, numpy_helper

    node = next(each for each in model.graph.node if each.name == layer.name)
    held = next(each for each in model.graph.initializer if each.name == layer.weight)
    matrix: Array = numpy_helper.to_array(held)
    turned = any(x.name == "transB" and helper.get_attribute_value(x) for x in node.attribute)
    return matrix if turned else matrix.T


def _columns(matrix: Array) -> set[bytes]:
    """Return what each input's weights are, ``[outputs]`` each."""
    return {x.tobytes() for x in np.ascontiguousarray(matrix.T.astype(np.float32))}
