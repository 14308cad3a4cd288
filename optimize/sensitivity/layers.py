"""The dense layers of a torch program: products by a constant matrix, as `optimize.int8` has them.

A layer is known by its matrix, so one that is applied twice is one layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import aten
from optimize.tables.program import short_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape

# operator → the places of its input and of its matrix among the arguments.
_PLACES: dict[Any, tuple[int, int]] = {
    aten.linear.default: (0, 1),
    aten.matmul.default: (0, 1),
    aten.mm.default: (0, 1),
    aten.addmm.default: (1, 2),
}
_TRANSPOSED = {aten.t.default, aten.numpy_T.default, aten.transpose.int, aten.permute.default}


@dataclass(frozen=True, eq=False)
class Product:
    """Where a layer multiplies.

    Attributes:
        node: In the graph.
        input_place: Which of its arguments the input is.
        weight_place: Which the matrix is.
        outputs_first: Whether it takes the matrix as ``[outputs, inputs]``.
        rows: Which dimension of the input has the rows, and how many times each; None if it is not
            known.
    """

    node: Node
    input_place: int
    weight_place: int
    outputs_first: bool
    rows: tuple[int, int] | None


@dataclass(frozen=True, eq=False)
class Layer:
    """A dense layer.

    Attributes:
        name: What the module calls its matrix, without ``.weight``.
        weight: float32 ``[outputs, inputs]``, a view of what the graph holds.
        products: Where it multiplies.
        multiply_adds: For each candidate.
    """

    name: str
    weight: Tensor
    products: tuple[Product, ...]
    multiply_adds: int


def find_layers(graph: FlatGraph) -> list[Layer]:
    """Return the dense layers of a flat graph in the order in which they come first.

    Products of two activations, as in attention, are none, nor is a matrix that stands first.
    """
    shapes = graph.shapes()
    found: dict[Any, list[tuple[Product, Tensor, str]]] = {}
    for node in graph.nodes:
        known = _product(graph, node, shapes)
        if known is not None:
            weight = known[1]
            found.setdefault((weight.data_ptr(), weight.shape, weight.stride()), []).append(known)
    layers = []
    for uses in found.values():
        _, weight, name = uses[0]
        products = tuple(each for each, _, _ in uses)
        work = sum(_outputs_a_row(each.node, shapes) for each in products) * weight.shape[1]
        layers.append(Layer(name, weight, products, work))
    return layers


def _product(
    graph: FlatGraph, node: Node, shapes: Mapping[Node, Shape]
) -> tuple[Product, Tensor, str] | None:
    """Return a node as a product, its matrix ``[outputs, inputs]`` and the matrix' name."""
    places = _PLACES.get(node.target)
    if places is None or len(node.args) <= places[1]:
        return None
    given: Any = node.args[places[0]]
    matrix: Any = node.args[places[1]]
    if graph.held(given) is not None or not isinstance(given, torch.fx.Node):
        return None
    outputs_first = node.target is aten.linear.default
    source, turned = matrix, False
    if isinstance(matrix, torch.fx.Node) and matrix.target in _TRANSPOSED:
        source, turned = matrix.args[0], True
    held = graph.held(source)
    if held is None or held.dim() != 2 or held.dtype != torch.float32:
        return None
    # As the graph has it the matrix is [outputs, inputs] if exactly one of the two turns it.
    weight = held.detach() if outputs_first != turned else held.detach().T
    product = Product(node, *places, outputs_first, _rows(shapes.get(given)))
    return product, weight, short_name(str(source.target))


def _rows(shape: Shape | None) -> tuple[int, int] | None:
    """Return the one dimension that has the rows, and how many times each."""
    found = [(place, -size) for place, size in enumerate(shape or ()) if size < 0]
    return found[0] if len(found) == 1 else None


def _outputs_a_row(node: Node, shapes: Mapping[Node, Shape]) -> int:
    return math.prod(abs(size) for size in shapes.get(node, (0,)))
