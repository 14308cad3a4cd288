"""Sums of rows that are shorter than a vector, as one addition after the other.

Of ``x.sum(1)``, x ``[rows, fields, D]``, Inductor makes a loop over rows and vectors of columns
with one over fields inside. How many vectors there are it rounds down to count its work: of fewer
columns than a vector has, none. The loop over fields then seems the longest by far, and threads
divide that one, anew for each row. Additions are a single loop.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten, dimension

if TYPE_CHECKING:
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

# Of AVX-512, the longest vectors that Inductor writes: 16 numbers of float32.
_VECTOR = 16
# More would be a long expression; there is seldom a sum over more fields that is no pooled lookup.
_MOST_FIELDS = 64


def add_short_rows(graph: FlatGraph) -> list[str]:
    """Make sums over the middle of three dimensions additions, in place, where rows are short.

    Returns:
        A line for each.
    """
    sums = graph.module.graph.find_nodes(op="call_function", target=aten.sum.dim_IntList)
    if not sums:
        return []
    shapes, values = graph.shapes(), graph.run(graph.sample(2))
    done = []
    for node in sums:
        given = arguments(node)
        summed: Any = given["self"]
        shape = shapes.get(summed, ())
        if len(shape) != 3 or not 0 < shape[1] <= _MOST_FIELDS or not 1 < shape[2] < _VECTOR:
            continue
        if [dimension(each, 3) for each in given["dim"] or ()] != [1] or given["dtype"] is not None:
            continue
        if values[summed].dtype != torch.float32:
            continue
        with graph.module.graph.inserting_before(node):
            node.replace_all_uses_with(_added(graph, summed, shape[1], keep=given["keepdim"]))
        done.append(f"sum of {shape[1]} rows of {shape[2]}: added one after the other")
    graph.clean()
    return done


def _added(graph: FlatGraph, summed: Node, number: int, *, keep: bool) -> Node:
    call = graph.module.graph.call_function
    fields = [call(aten.select.int, (summed, 1, place)) for place in range(number)]
    total = reduce(lambda one, other: call(aten.add.Tensor, (one, other)), fields)
    return call(aten.unsqueeze.default, (total, 1)) if keep else total
