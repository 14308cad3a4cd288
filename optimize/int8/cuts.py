"""Ranges that a graph holds already: a layer's input that is cut before it says what it can be.

`optimize.stages.quantize_aware` leaves such cuts (``Clip``) with the limits that were learnt. An
8-bit number is cut at the ends of its range by itself, so the cuts go once ranges are theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from optimize.int8.constants import constants_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optimize.int8.layers import DenseLayer


def learnt_ranges(model: Any, layers: Sequence[DenseLayer]) -> dict[str, tuple[float, float]]:
    """Return the limits between which the inputs of layers are cut, by the input's name.

    Args:
        model: An ``onnx.ModelProto``.
        layers: Of it.
    """
    constants = constants_of(model, most=1)
    made_by = {name: node for node in model.graph.node for name in node.output}
    found = {}
    for layer in _nodes(model, layers):
        cut = made_by.get(layer.input[0])
        if cut is None or cut.op_type != "Clip" or len(cut.input) != 3:
            continue
        low, high = (constants.get(name) for name in cut.input[1:])
        if low is not None and high is not None and float(low) < float(high):
            found[layer.input[0]] = (float(low), float(high))
    return found


def drop_cuts(model: Any, names: Sequence[str]) -> None:
    """Take cuts out, in place, that only QuantizeLinear reads.

    Args:
        model: An ``onnx.ModelProto``, quantized.
        names: What the cuts make.
    """
    for cut in [each for each in model.graph.node if each.output and each.output[0] in names]:
        readers = [node for node in model.graph.node if cut.output[0] in node.input]
        if cut.op_type == "Clip" and all(node.op_type == "QuantizeLinear" for node in readers):
            for node in readers:
                node.input[0] = cut.input[0]
            model.graph.node.remove(cut)


def _nodes(model: Any, layers: Sequence[DenseLayer]) -> list[Any]:
    names = {each.name for each in layers}
    return [node for node in model.graph.node if node.name in names]
