"""What a program makes of each feature by itself, before it meets any other.

The values that depend on one feature alone, and are read by what depends on others too, are all
that the rest of the program knows of it: a looked-up row, a mask, a scaled number. What stands in
a feature's place stands there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from optimize.flat_graph import SIZES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from rankers.requests import Array, Columns, RequestBatch

_CHUNK_ROWS = 8192


def frontier(graph: FlatGraph, feature: str) -> list[Node]:
    """Return the values that are made of one feature alone and read by what is not, in order.

    The column itself is one, if nothing is made of it before.
    """
    alone = _made_of(graph, feature)
    return [
        node
        for node in graph.nodes
        if node in alone
        and any(user not in alone and user.target not in SIZES for user in node.users)
    ]


def sizes_of(graph: FlatGraph, feature: str) -> list[Node]:
    """Return the nodes that read a size of what is made of one feature alone."""
    alone = _made_of(graph, feature)
    return [
        node
        for node in graph.nodes
        if node.target in SIZES and any(each in alone for each in node.all_input_nodes)
    ]


def score_with(
    graph: FlatGraph, requests: RequestBatch, given: Sequence[Mapping[Node, Tensor]] = ()
) -> Array:
    """Score requests, with some nodes' values given in place of what they compute.

    Args:
        graph: Flat.
        requests: To score.
        given: By node its value for any row, ``[1, …]``.

    Returns:
        float32 ``[ΣN]``.
    """
    fixed = {node: value for each in given for node, value in each.items()}

    def score(columns: Columns) -> Array:
        tensors = [torch.from_numpy(np.ascontiguousarray(columns[x])) for x in graph.names]
        rows = len(tensors[0])

        class Given(torch.fx.Interpreter):
            def run_node(self, n: Node) -> Any:
                if n in fixed and n.op != "placeholder":
                    return fixed[n].expand(rows, *fixed[n].shape[1:])
                value = super().run_node(n)  # a column is taken off the list in any case
                return fixed[n].expand(rows, *fixed[n].shape[1:]) if n in fixed else value

        with torch.no_grad():
            found: Any = Given(graph.module).run(*tensors)
        scores = found[0] if isinstance(found, tuple | list) else found
        result: Array = scores.reshape(-1).numpy()
        return result

    return np.concatenate([score(each.flat()) for each in requests.chunks(_CHUNK_ROWS)])


def _made_of(graph: FlatGraph, feature: str) -> set[Node]:
    """Return the nodes that depend on one column's values and on no other's; itself included."""
    depends: dict[Node, frozenset[str]] = {
        node: frozenset({name}) for name, node in graph.placeholders.items()
    }
    for node in graph.nodes:
        if node not in depends:
            read = [] if node.target in SIZES else node.all_input_nodes
            depends[node] = frozenset().union(*(depends[each] for each in read))
    return {node for node, names in depends.items() if names == {feature} and node.op != "output"}
