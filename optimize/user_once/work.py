"""How much a graph computes for one request, by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from optimize.flat_graph import SIZES, arguments, aten
from optimize.user_once.cost import Cost, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape, Side

VIEWS = {
    aten.reshape.default, aten.flatten.using_ints, aten.squeeze.dim, aten.unsqueeze.default,
    aten.unflatten.int, aten.expand.default, aten.expand_as.default, aten.select.int,
    aten.slice.Tensor, aten.transpose.int, aten.permute.default, *SIZES,
}  # fmt: skip
_PRODUCTS = {aten.matmul.default, aten.bmm.default, aten.mm.default, aten.addmm.default}
SIDES: tuple[Side, ...] = ("none", "user", "item", "both")


@dataclass(frozen=True, slots=True)
class Work:
    """What one request takes.

    Attributes:
        operators: How many operators there are, by side.
        multiply_adds: Of matrix products and attention, by side.
        gathered_bytes: Of rows read from tables.
        seconds: By the clock of `optimize.user_once.cost`; good for comparing, no more.
    """

    operators: dict[str, int]
    multiply_adds: dict[str, int]
    gathered_bytes: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        return {
            "operators": self.operators,
            "multiply_adds": self.multiply_adds,
            "gathered_bytes": self.gathered_bytes,
            "modelled_ms": round(self.seconds * 1e3, 4),
        }


@dataclass(frozen=True, slots=True)
class NodeWork:
    """What one operator takes of one request.

    Attributes:
        elements: Written.
        multiply_adds: Of a matrix product or attention.
        gathered_bytes: Of rows read from a table.
    """

    elements: int
    multiply_adds: int
    gathered_bytes: int


def work_of(
    graph: FlatGraph,
    sides: Mapping[Node, Side],
    request: Request,
    *,
    once: bool,
    shapes: Mapping[Node, Shape] | None = None,
) -> Work:
    """Count a graph's work.

    Args:
        graph: Flat.
        sides: Of its values.
        request: What is scored.
        once: Whether the user's part runs once, or for each candidate as in a flat program.
        shapes: Of its values, if they are known already.
    """
    operators: dict[str, int] = dict.fromkeys(SIDES, 0)
    products: dict[str, int] = dict.fromkeys(SIDES, 0)
    total, gathered = Cost(), 0
    for node, work in node_works(graph, sides, request, once=once, shapes=shapes).items():
        side = sides[node]
        operators[side] += 1
        products[side] += work.multiply_adds
        gathered += work.gathered_bytes
        total += Cost(work.multiply_adds, work.elements, 1)
    return Work(operators, products, gathered, total.seconds)


def node_works(
    graph: FlatGraph,
    sides: Mapping[Node, Side],
    request: Request,
    *,
    once: bool,
    shapes: Mapping[Node, Shape] | None = None,
) -> dict[Node, NodeWork]:
    """Count the work of each operator that computes something; arguments as of `work_of`."""
    shapes = graph.shapes() if shapes is None else shapes
    found = {}
    for node in graph.nodes:
        if node.op != "call_function" or node.target in VIEWS or node not in shapes:
            continue
        side = sides[node]
        rows: Side = side if once or side == "none" else "both"
        elements = request.elements(shapes[node], rows)
        gathered = 0
        if node.target is aten.embedding.default:
            table = graph.held(node.args[0])
            gathered = elements * (4 if table is None else table.element_size())
        found[node] = NodeWork(elements, _multiply_adds(graph, node, elements, shapes), gathered)
    return found


def _multiply_adds(
    graph: FlatGraph, node: Node, elements: int, shapes: Mapping[Node, Shape]
) -> int:
    """Of a value with so many elements."""
    given = arguments(node)
    if node.target is aten.linear.default:
        weight = graph.held(given["weight"])
        return elements * (shapes[given["input"]][-1] if weight is None else weight.shape[1])
    if node.target in _PRODUCTS:
        one: Any = node.args[1 if node.target is aten.addmm.default else 0]
        return elements * max(1, shapes[one][-1])
    if node.target is aten.scaled_dot_product_attention.default:
        query, key = shapes[given["query"]], shapes[given["key"]]
        width = shapes[node][-1]
        return elements // max(1, width) * abs(key[-2]) * (query[-1] + width)
    return 0
