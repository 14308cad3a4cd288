"""Sums and maxima over rows that are shorter than a vector, one row after the other.

Of ``x.sum(1)``, x ``[rows, fields, D]``, Inductor makes a loop over rows and vectors of columns
with one over fields inside. How many vectors there are it rounds down to count its work: of fewer
columns than a vector has, none. The loop over fields then seems the longest by far, and threads
divide that one, anew for each row. One addition after the other is a single loop.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from optimize.flat_graph import arguments, aten, dimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape

# Of AVX-512, the longest vectors that Inductor writes: 16 numbers of float32.
_VECTOR = 16
# More would be a very long expression.
_MOST_FIELDS = 128
_PAIRWISE: dict[Any, Any] = {
    aten.sum.dim_IntList: aten.add.Tensor,
    aten.amax.default: aten.maximum.default,
}
# A product with one row is a sum, too, of rows times numbers.
_PRODUCTS = {aten.matmul.default, aten.bmm.default}


class _Reduced(NamedTuple):
    """What is reduced over its middle dimension: ``[rows, fields, D]``, by what, and times what."""

    values: Node
    by: Any
    factors: Node | None  # [rows, 1, fields]
    keepdim: bool


def reduce_short_rows(graph: FlatGraph) -> list[str]:
    """Write reductions over the middle of three dimensions out, in place, where rows are short.

    Returns:
        A line for each.
    """
    found = [each for each in graph.nodes if each.target in _PAIRWISE or each.target in _PRODUCTS]
    if not found:
        return []
    shapes, values = graph.shapes(), graph.run(graph.sample(2))
    done = []
    for node in found:
        reduced = _reduced(node, shapes)
        if reduced is None or values[node].dtype != torch.float32:
            continue
        _, fields, columns = shapes[reduced.values]
        if not 1 < fields <= _MOST_FIELDS or not 1 < columns < _VECTOR:
            continue
        with graph.module.graph.inserting_before(node):
            node.replace_all_uses_with(_written_out(graph, reduced, fields))
        done.append(f"{fields} rows of {columns} numbers: one after the other")
    graph.clean()
    return done


def _reduced(node: Node, shapes: Mapping[Node, Shape]) -> _Reduced | None:
    """Return what a node reduces over the middle of three dimensions; None if it does not."""
    if node.target in _PRODUCTS:
        one, other = (each for each in node.args[:2] if isinstance(each, torch.fx.Node))
        factors, rows = shapes.get(one, ()), shapes.get(other, ())
        if len(factors) != 3 or len(rows) != 3 or factors[1] != 1 or factors[0] != rows[0]:
            return None
        return _Reduced(other, aten.add.Tensor, one, keepdim=True)
    given = arguments(node)
    if len(shapes.get(given["self"], ())) != 3 or given.get("dtype") is not None:
        return None
    if [dimension(each, 3) for each in given["dim"] or ()] != [1]:
        return None
    return _Reduced(given["self"], _PAIRWISE[node.target], None, keepdim=given["keepdim"])


def _written_out(graph: FlatGraph, reduced: _Reduced, fields: int) -> Node:
    call = graph.module.graph.call_function
    values = reduced.values
    if reduced.factors is not None:
        values = call(aten.mul.Tensor, (values, call(aten.transpose.int, (reduced.factors, 1, 2))))
    rows = [call(aten.select.int, (values, 1, place)) for place in range(fields)]
    result = reduce(lambda one, other: call(reduced.by, (one, other)), rows)
    return call(aten.unsqueeze.default, (result, 1)) if reduced.keepdim else result
