"""Run what depends on the user alone once a request, and the rest once a candidate.

::

    user columns [R, …] ──► the user's part ──┐ each value that is read below, [R, …]
                                              ├─ index_select(item_to_request) ─► [ΣN, …]
    item columns [ΣN, …] ─────────────────────┴─► the candidates' part ─► scores [ΣN]

Parameters and constants are on either side. Numbers of rows are read anew: R above, ΣN below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Graph, GraphModule, Node

from optimize.flat_graph import SIZES, FlatGraph, Side, aten, joined
from rankers.requests import ITEM_TO_REQUEST

if TYPE_CHECKING:
    from optimize.flat_graph import Shape


def split(graph: FlatGraph, sides: dict[Node, Side]) -> tuple[GraphModule, dict[Node, Node]]:
    """Build the split module.

    Args:
        graph: Flat; it stays as it is.
        sides: As `splittable_sides` gives them.

    Returns:
        A module from columns in the graph's order, the user's ``[R, …]`` and the items'
        ``[ΣN, …]``, and ``item_to_request`` int64 ``[ΣN]``, to scores ``[ΣN]``; and for each value
        at the frontier, by its flat node, the node that repeats it.
    """
    building = _Building(graph, sides)
    for node in graph.nodes:
        building.add(node)
    module = GraphModule(graph.module, building.graph)
    result = FlatGraph(module, (*graph.names, ITEM_TO_REQUEST), graph.user, graph.sample)
    result.clean()
    return module, {
        node: repeated for node, repeated in building.frontier.items() if repeated.users
    }


def splittable_sides(graph: FlatGraph) -> dict[Node, Side]:
    """Return each value's side, where values that cannot be repeated are taken for both's.

    A user's value is repeated along its one dimension of rows. One without, or with rows merged
    into another dimension, is computed for every candidate from what it reads.
    """
    shapes = graph.shapes()
    sides = graph.sides()
    while True:
        stuck = {
            node
            for node in _frontier(graph, sides)
            if sum(size < 0 for size in shapes.get(node, ())) != 1 or -1 not in shapes[node]
        }
        if not stuck:
            return sides
        sides = _with(graph, sides, stuck)


def _frontier(graph: FlatGraph, sides: dict[Node, Side]) -> list[Node]:
    """Return the user's values that others read."""
    return [
        node
        for node in graph.nodes
        if sides[node] == "user" and any(sides[each] != "user" for each in node.users)
        # A tuple is read by getitem only, which is on its side.
    ]


def _with(graph: FlatGraph, sides: dict[Node, Side], both: set[Node]) -> dict[Node, Side]:
    """Return the sides with some values, and what follows from them, taken for both's."""
    found: dict[Node, Side] = {}
    for node in graph.nodes:
        if node in both:
            found[node] = "both"
        elif node.op == "placeholder" or node.target in SIZES:
            found[node] = sides[node]
        elif sides[node] == "both":
            found[node] = "both"
        else:
            found[node] = joined(found[each] for each in node.all_input_nodes)
    return found


class _Building:
    """The new graph, and each old value's copy in the user's part and in the candidates'."""

    def __init__(self, flat: FlatGraph, sides: dict[Node, Side]) -> None:
        self.graph = Graph()
        self.frontier: dict[Node, Node] = {}
        self._sides = sides
        self._shapes: dict[Node, Shape] = flat.shapes()
        self._above: dict[Node, Node] = {}
        self._below: dict[Node, Node] = {}
        placed = {node: self.graph.placeholder(name) for name, node in flat.placeholders.items()}
        self._index = self.graph.placeholder(ITEM_TO_REQUEST)
        for name, node in flat.placeholders.items():
            (self._above if name in flat.user else self._below)[node] = placed[node]
        first = next(iter(self._above.values()))
        self._requests = self.graph.call_function(aten.sym_size.int, (first, 0))
        self._rows = self.graph.call_function(aten.sym_size.int, (self._index, 0))

    def add(self, node: Node) -> None:
        """Copy a node to the part, or parts, that it belongs to."""
        if node.op == "placeholder":
            return
        if node.op == "get_attr":
            self._above[node] = self._below[node] = self.graph.node_copy(node)
            return
        if node.op == "output":
            self.graph.output(torch.fx.map_arg(node.args[0], self._get_below))
            return
        side = self._sides[node]
        if node.target in SIZES:
            self._above[node] = self._size(node, self._requests, self._get_above)
            self._below[node] = self._size(node, self._rows, self._get_below)
            return
        # What is neither's may still have rows (zeros for each row): a copy for each part. The
        # unread one goes when the graph is cleaned.
        if side in {"none", "user"}:
            self._above[node] = self.graph.node_copy(node, self._get_above)
        if side != "user":
            self._below[node] = self.graph.node_copy(node, self._get_below)

    def _size(self, node: Node, rows: Node, get: Any) -> Node:
        (size,) = self._shapes.get(node, (0,))
        if size < 0:
            return rows if size == -1 else self.graph.call_function(_times, (rows, -size))
        return self.graph.node_copy(node, get)

    def _get_above(self, node: Node) -> Node:
        return self._above[node]

    def _get_below(self, node: Node) -> Node:
        if node not in self._below:
            dimension = self._shapes[node].index(-1)
            repeated = self.graph.call_function(
                aten.index_select.default, (self._above[node], dimension, self._index)
            )
            self._below[node] = self.frontier[node] = repeated
        return self._below[node]


def _times(rows: int, times: int) -> int:
    return rows * times
