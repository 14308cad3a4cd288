"""Sums of looked-up rows as one kernel, which reads each row where it lies.

Inductor writes ``(table[ids] * mask).sum(1)`` as a loop over the columns of the table and in it one
over the IDs: it reads a table column by column, a vector of numbers from as many rows at a time.
torch's embedding bag reads rows, and is fast where it has no padding ID to leave out. So a mask of
IDs goes where the row that it masks is all zeros, and becomes the weights of the sum elsewhere.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from optimize.flat_graph import arguments, aten, dimension

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape

_SUM = 0
# A call of the kernel costs as much as the loop does over some hundred IDs.
_FEWEST_IDS = 16
# What a mask passes on its way from IDs to weights, without its numbers changing.
_SAME_NUMBERS = {aten.unsqueeze.default, aten.to.dtype, aten.view.default, aten.reshape.default}


class _Pooled(NamedTuple):
    """A sum of rows of a table: their lookup, and weights ``[bags, L, 1]`` if they have any."""

    lookup: Node
    weights: Node | None


def pool_in_one_kernel(graph: FlatGraph, *, user_once: bool) -> list[str]:
    """Make sums over looked-up rows embedding bags, in place; return a line for each.

    Sums of few rows stay loops.

    Args:
        graph: Of either layout.
        user_once: Whether values of the user's side are computed once a request: one sum is few.
    """
    sums = graph.module.graph.find_nodes(op="call_function", target=aten.sum.dim_IntList)
    if not sums:
        return []
    shapes, values, sides = graph.shapes(), graph.run(graph.sample(2)), graph.sides()
    done = []
    for node in sums:
        found = _pooled(node, shapes, values)
        if found is None or (user_once and sides[node] == "user"):
            continue
        length = shapes[found.lookup][1]
        weights = None if _leaves_out_zeros(graph, found) else found.weights
        with graph.module.graph.inserting_before(node):
            bag = _bag(graph, found.lookup, weights, length)
            if arguments(node)["keepdim"]:
                bag = graph.module.graph.call_function(aten.unsqueeze.default, (bag, 1))
        node.replace_all_uses_with(bag)
        done.append(f"sums of {length} looked-up rows: one kernel")
    graph.clean()
    return done


def _pooled(node: Node, shapes: Mapping[Node, Shape], values: Mapping[Node, Any]) -> _Pooled | None:
    """Return what rows a sum adds up; None if it sums anything else, or along anything else."""
    given = arguments(node)
    summed: Any = given["self"]
    shape = shapes.get(summed)
    if shape is None or len(shape) != 3 or shape[1] < _FEWEST_IDS or given["dtype"] is not None:
        return None
    if [dimension(each, 3) for each in given["dim"] or ()] != [1] or len(summed.users) > 1:
        return None

    def looks_up(rows: Any) -> bool:
        if not isinstance(rows, torch.fx.Node) or rows.target is not aten.embedding.default:
            return False
        ids: Any = rows.args[1]
        one_by_one = values[ids].dtype == torch.int64 and len(shapes.get(ids, ())) == 2
        return one_by_one and values[rows].dtype == torch.float32 and shapes.get(rows) == shape

    if looks_up(summed):
        return _Pooled(summed, None)
    if summed.target is not aten.mul.Tensor:
        return None
    for rows, weights in (summed.args, summed.args[::-1]):
        if looks_up(rows) and len(rows.users) == 1 and shapes.get(weights) == (*shape[:2], 1):
            return _Pooled(rows, weights) if values[weights].dtype == torch.float32 else None
    return None


def _leaves_out_zeros(graph: FlatGraph, pooled: _Pooled) -> bool:
    """Whether weights are 0 for one ID, whose row is all zeros, and 1 for every other."""
    mask: Any = pooled.weights
    while isinstance(mask, torch.fx.Node) and mask.target in _SAME_NUMBERS:
        mask = mask.args[0]
    if not isinstance(mask, torch.fx.Node) or mask.target is not aten.ne.Scalar:
        return False
    table, (ids, padding) = graph.held(pooled.lookup.args[0]), mask.args
    if table is None or ids is not pooled.lookup.args[1] or not isinstance(padding, int):
        return False
    return 0 <= padding < len(table) and not bool(table[padding].any())


def _bag(graph: FlatGraph, lookup: Node, weights: Node | None, length: int) -> Node:
    """Write the embedding bag of a lookup's rows, ``[bags, D]``."""
    call = graph.module.graph.call_function
    table, ids = lookup.args[:2]
    numbers = call(aten.arange.default, (call(aten.sym_size.int, (ids, 0)),))
    starts = call(aten.mul.Tensor, (numbers, length))
    each_id = call(aten.reshape.default, (ids, [-1]))
    each_weight = None if weights is None else call(aten.reshape.default, (weights, [-1]))
    options = (False, _SUM, False, each_weight, False)  # neither scaled by frequency nor sparse
    pooled = call(aten.embedding_bag.default, (table, each_id, starts, *options))
    return call(operator.getitem, (pooled, 0))
