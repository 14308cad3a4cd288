"""Sums where user meets item, so that no value of every candidate and every event is written.

- A weighted sum of events, ``(w * h).sum(1)`` with w ``[rows, L, 1]`` and h ``[rows, L, D]``, is
  the product ``wᵀ h``: nothing of ``[N, L, D]`` is written, and for one user it is one product.
- A sum over stacked vectors of both sides (a factorization machine's) is the user's sum, once,
  and the item's; through squares and other functions of single elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from optimize.flat_graph import arguments, aten, dimension, stand_in

if TYPE_CHECKING:
    from optimize.flat_graph import FlatGraph, Shape, Side
    from optimize.user_once.cost import Request

# Of one tensor, element by element.
_ELEMENTWISE = {
    aten.abs.default, aten.exp.default, aten.neg.default, aten.pow.Tensor_Scalar,
    aten.relu.default, aten.sigmoid.default, aten.square.default, aten.tanh.default,
}  # fmt: skip
_SUMS = {aten.sum.dim_IntList, aten.mean.dim}


def multiply_weighted_sums(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - pays
    """Make weighted sums of the user's vectors matrix products."""
    shapes, sides, done = graph.shapes(), graph.sides(), []
    for node in graph.nodes:
        if node.target is not aten.sum.dim_IntList:
            continue
        given = arguments(node)
        found = _weights_and_vectors(given["self"], shapes, sides)
        if found is None or list(given["dim"] or ()) not in ([1], [-2]) or given["dtype"]:
            continue
        w, h = found
        with graph.module.graph.inserting_before(node):
            call = graph.module.graph.call_function
            # [rows, 1, L] by another shape, not by a transposition: runtimes fuse that into a
            # product of its own for each candidate.
            row = call(aten.unsqueeze.default, (call(aten.squeeze.dim, (w, 2)), 1))
            total = call(aten.matmul.default, (row, h))
            if not given["keepdim"]:
                total = call(aten.squeeze.dim, (total, 1))
        stand_in(node, total, shapes, sides)
        done.append(f"weighted sum of {shapes[h][1]} vectors of the user")
    graph.clean()
    return done


def _weights_and_vectors(
    product: Node, shapes: dict[Node, Shape], sides: dict[Node, Side]
) -> tuple[Node, Node] | None:
    """Return w ``[rows, L, 1]``, not the user's, and h ``[rows, L, D]`` of the user."""
    if product.target is not aten.mul.Tensor:
        return None
    given = arguments(product)
    for w, h in ((given["self"], given["other"]), (given["other"], given["self"])):
        if not (isinstance(w, Node) and isinstance(h, Node)):
            return None
        narrow, wide = shapes.get(w, ()), shapes.get(h, ())
        fits = len(wide) == 3 and narrow == (*wide[:2], 1) and wide[0] == -1 and wide[2] > 1
        if fits and wide[1] > 0 and sides[h] == "user" != sides[w]:
            return w, h
    return None


def split_sums(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - always pays
    """Sum what is stacked of both sides by side."""
    done = []
    shapes, sides = graph.shapes(), graph.sides()
    for node in graph.nodes:
        if node.target not in _SUMS:
            continue
        given = arguments(node)
        source, dimensions = given["self"], list(given["dim"] or ())
        if source not in shapes or len(dimensions) != 1 or given["keepdim"] or given["dtype"]:
            continue
        along = dimension(dimensions[0], len(shapes[source]))
        functions, stacked = _through_functions(source)
        parts = _stacked(stacked, along, shapes)
        users = [each for each in parts if sides[each] in {"user", "none"}]
        others = [each for each in parts if sides[each] not in {"user", "none"}]
        if not others or not any(sides[each] == "user" for each in users):
            continue
        with graph.module.graph.inserting_before(node):
            call = graph.module.graph.call_function
            sums = []
            for some in (users, others):
                value = call(stacked.target, (some, along))  # type: ignore[arg-type]
                for each in functions:
                    value = call(each.target, (value, *each.args[1:]))  # type: ignore[arg-type]
                sums.append(call(aten.sum.dim_IntList, (value, [along])))
            total = call(aten.add.Tensor, tuple(sums))
            if node.target is aten.mean.dim:
                total = call(aten.div.Tensor, (total, shapes[stacked][along]))
        stand_in(node, total, shapes, sides)
        done.append(f"sum of {len(users)} values of the user and {len(others)} others")
    graph.clean()
    return done


def _through_functions(value: Node) -> tuple[list[Node], Node]:
    """Return the functions of single elements above a value, innermost first, and what is below."""
    functions: list[Node] = []
    while value.target in _ELEMENTWISE and isinstance(value.args[0], Node):
        functions.insert(0, value)
        value = value.args[0]
    return functions, value


def _stacked(value: Node, along: int, shapes: dict[Node, Shape]) -> list[Node]:
    """Return what a value stacks or concatenates along a dimension of fixed size, or nothing."""
    if value.target not in {aten.stack.default, aten.cat.default} or value not in shapes:
        return []
    given: Any = arguments(value)
    if dimension(given["dim"], len(shapes[value])) != along or shapes[value][along] < 0:
        return []
    return list(given["tensors"])
