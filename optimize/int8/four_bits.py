"""Scales of matrices in 4 bits, from -7 to 7.

The library's own scales let them run from -8 to 7, so that the largest value of an output lies
between -8 and -7, to fall to either side by its last bit, or is cut to 7. These put it on 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.int8.constants import constants_of, is_transposed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.int8.layers import DenseLayer

_TINY = 1e-12


def matrix_scales(model: Any, layers: Sequence[DenseLayer]) -> dict[str, list[dict[str, Any]]]:
    """Return the matrices' entries of ``TensorQuantOverrides``, a scale for each output.

    Args:
        model: An ``onnx.ModelProto`` with its weights.
        layers: Of it.
    """
    constants = constants_of(model)
    found = {}
    for node in model.graph.node:
        if node.name not in {each.name for each in layers}:
            continue
        outputs = 0 if is_transposed(node) else 1
        largest = np.abs(constants[node.input[1]]).max(axis=1 - outputs)
        scales = np.maximum(largest / 7, _TINY).astype(np.float32)
        found[node.input[1]] = [
            {"axis": outputs, "scale": scale, "zero_point": 0} for scale in scales
        ]
    return found
