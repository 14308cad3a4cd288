"""Take away what hides structure and computes nothing: the rewrites then have fewer forms to know.

Dropout of evaluation, copies, casts to what a value is already, batch norm of evaluation (a product
and a sum), and expansions that broadcasting does by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.fx import Node

from optimize.flat_graph import arguments, aten

if TYPE_CHECKING:
    from optimize.flat_graph import FlatGraph, Shape

# These give their first argument back, or a copy of it.
_COPIES = {
    aten.alias.default, aten.clone.default, aten.contiguous.default, aten.detach.default,
    aten.detach_.default, aten.lift_fresh_copy.default,
}  # fmt: skip
_DROPOUTS = {aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default}
_RESHAPES = {
    aten.reshape.default, aten.flatten.using_ints, aten.squeeze.dim, aten.squeeze.default,
    aten.squeeze.dims, aten.unsqueeze.default, aten.unflatten.int,
}  # fmt: skip
_VIEWS = {aten.view.default, aten._unsafe_view.default}  # noqa: SLF001 - an operator's name
EXPANDS = {aten.expand.default, aten.expand_as.default}
# Elementwise operators that take tensors as their first two arguments and broadcast.
BROADCASTING = {
    aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.maximum.default,
    aten.minimum.default,
}  # fmt: skip


def normalize(graph: FlatGraph) -> None:
    """Rewrite a graph in place; it computes what it did, batch norms up to rounding."""
    for node in graph.nodes:
        if node.target in _VIEWS:  # whatever lies in memory how: values move to other places
            node.target = aten.reshape.default
    _unfold_batch_norms(graph)
    _drop_copies(graph)
    _drop_reshapes_there_and_back(graph)
    _drop_expansions(graph)
    graph.clean()


def _drop_copies(graph: FlatGraph) -> None:
    values = graph.run(graph.sample(2))
    for node in graph.nodes:
        given = arguments(node)
        target = node.target
        useless = (
            target in _COPIES
            or (target in _DROPOUTS and not given["train"])
            or (target is aten.slice.Tensor and _is_whole(given))
            or (target is aten.to.dtype and given["dtype"] == values[given["self"]].dtype)
        )
        if useless:
            node.replace_all_uses_with(given["input" if target in _DROPOUTS else "self"])


def _is_whole(given: dict[str, Any]) -> bool:
    """Whether a slice leaves nothing out."""
    stop = given["end"]
    endless = stop is None or (isinstance(stop, int) and stop >= torch.iinfo(torch.int64).max)
    return given["start"] in {0, None} and given["step"] == 1 and endless


def _unfold_batch_norms(graph: FlatGraph) -> None:
    """Make a batch norm of evaluation ``x · scale + shift``, with the channels where they are."""
    shapes = graph.shapes()
    for node in graph.nodes:
        given = arguments(node)
        if node.target is not aten.batch_norm.default or given["training"]:
            continue
        names = ("weight", "bias", "running_mean", "running_var")
        held = [graph.held(given[each]) for each in names]
        x, epsilon = given["input"], given["eps"]
        shape = shapes.get(x)
        if held[2] is None or held[3] is None or shape is None:
            continue
        scale = (held[3].double() + epsilon).rsqrt()
        if held[0] is not None:
            scale = scale * held[0].double()
        shift = -held[2].double() * scale
        if held[1] is not None:
            shift = shift + held[1].double()
        like = (-1, *(1 for _ in shape[2:]))  # [C, 1, …] for [B, C, …]
        dtype = held[2].dtype
        parts = [
            graph.constant(f"{node.name}_{name}", value.to(dtype).reshape(like), node)
            for name, value in (("scale", scale), ("shift", shift))
        ]
        with graph.module.graph.inserting_before(node):
            scaled = graph.module.graph.call_function(aten.mul.Tensor, (x, parts[0]))
            shifted = graph.module.graph.call_function(aten.add.Tensor, (scaled, parts[1]))
        node.replace_all_uses_with(shifted)


def _drop_reshapes_there_and_back(graph: FlatGraph) -> None:
    """Take a reshape, and what is elementwise after it, back to the shape from before it.

    ``reshape(f(flatten(x)))`` with the shape of x is ``f(x)`` where f scales and shifts the last
    dimension, as batch norms of merged rows do.
    """
    shapes = graph.shapes()
    for node in graph.nodes:
        if node.target not in _RESHAPES or node not in shapes:
            continue
        chain = []
        before: Any = node.args[0]
        while before.target in {aten.mul.Tensor, aten.add.Tensor} and len(before.users) == 1:
            constant = graph.held(before.args[1])
            if constant is None or constant.dim() > 1:
                break
            chain.append(before)
            before = before.args[0]
        if before.target not in _RESHAPES or not isinstance(before.args[0], Node):
            continue
        source = before.args[0]
        same = (
            shapes.get(source) == shapes[node]
            and shapes[source][-1:] == shapes.get(before, ())[-1:]
        )
        if not same or shapes[node][-1] < 0:
            continue
        value = source
        with graph.module.graph.inserting_before(node):
            for each in reversed(chain):
                value = graph.module.graph.call_function(
                    each.target,
                    (value, each.args[1]),
                )
        node.replace_all_uses_with(value)


def _drop_expansions(graph: FlatGraph) -> None:
    """Read what was expanded before it was, where an operator broadcasts by itself."""
    shapes = graph.shapes()
    for node in graph.nodes:
        if node.target not in BROADCASTING or node not in shapes:
            continue
        for place in (0, 1):
            operand, other = node.args[place], node.args[1 - place]
            if not isinstance(operand, Node) or operand.target not in EXPANDS:
                continue
            source = arguments(operand)["self"]
            if broadcast(shapes.get(source), _shape_of(other, shapes)) == shapes[node]:
                both = list(node.args)
                both[place] = source
                node.args = tuple(both)


def _shape_of(value: Any, shapes: dict[Node, Shape]) -> Shape | None:
    return shapes.get(value) if isinstance(value, Node) else ()


def broadcast(*shapes: Shape | None) -> Shape | None:
    """Return the shape that shapes broadcast to; None if one is not known or they do not."""
    known = [each for each in shapes if each is not None]
    if len(known) < len(shapes):
        return None
    rank = max(len(each) for each in known)
    result = []
    for sizes in zip(*((1,) * (rank - len(each)) + each for each in known), strict=True):
        distinct = set(sizes) - {1}
        if len(distinct) > 1:
            return None
        result.append(distinct.pop() if distinct else 1)
    return tuple(result)
