"""Sums of a layer's result and what goes around the layer, as TensorRT quantizes them.

TensorRT fuses such a sum into the product before it if the input that goes around is quantized, and
loses the fusion if the product's own result is. Source: "Q/DQ Layer-Placement Recommendations",
https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from optimize.int8.layers import DenseLayer


@dataclass(frozen=True, slots=True)
class ResidualAdd:
    """A sum of a quantized layer's result and another activation.

    Attributes:
        name: The node's.
        product: Which of its inputs comes from the layer: 0 or 1.
    """

    name: str
    product: int


def residual_adds(model: Any, layers: Sequence[DenseLayer]) -> tuple[ResidualAdd, ...]:
    """Return the residual sums behind layers; those of two layers' results are none.

    Args:
        model: An ``onnx.ModelProto``; nodes without a name get one.
        layers: Those that are quantized.
    """
    wanted = {each.name for each in layers}
    constants = {each.name for each in model.graph.initializer}
    products: set[str] = set()  # results of layers, with their biases
    found = []
    for place, node in enumerate(model.graph.node):
        if node.name in wanted:
            products.update(node.output)
        elif node.op_type == "Add":
            of_layer = [name in products for name in node.input]
            if any(of_layer) and constants.intersection(node.input):
                products.update(node.output)  # a bias
            elif of_layer in ([True, False], [False, True]):
                node.name = node.name or f"Add_{place}"
                found.append(ResidualAdd(node.name, of_layer.index(True)))
    return tuple(found)


def keep_pairs_to(path: Path, layers: Collection[str], adds: Sequence[ResidualAdd]) -> None:
    """Leave Q/DQ pairs before layers, and in residual sums before what goes around a layer.

    The library gives every reader of a quantized value the rounded one; others than these get the
    value itself again.

    Args:
        path: A graph that the library wrote; written anew.
        layers: Names of the nodes that are quantized.
        adds: Whose two inputs the library quantized.
    """
    import onnx

    from optimize.int8.writing import large

    model = onnx.load(path)
    makers = {name: node for node in model.graph.node for name in node.output}
    products = {each.name: each.product for each in adds}
    wanted = {*layers}
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            back = makers.get(name)
            if back is None or back.op_type != "DequantizeLinear" or node.name in wanted:
                continue
            quantizer = makers.get(back.input[0])
            if quantizer is not None and products.get(node.name, place) == place:
                node.input[place] = quantizer.input[0]
    _drop_unread_pairs(model)
    beside = large(path)
    for file in path.parent.iterdir():
        file.unlink()
    onnx.save_model(model, path, save_as_external_data=beside, location=f"{path.name}.data")


def _drop_unread_pairs(model: Any) -> None:
    for kind in ("DequantizeLinear", "QuantizeLinear"):
        read = {name for node in model.graph.node for name in node.input}
        read |= {each.name for each in model.graph.output}
        kept = [x for x in model.graph.node if x.op_type != kind or x.output[0] in read]
        del model.graph.node[:]
        model.graph.node.extend(kept)
    read = {name for node in model.graph.node for name in node.input}
    weights = [each for each in model.graph.initializer if each.name in read]
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
