"""DIN's Dice after a linear layer: its standardization becomes part of the layer.

``x (a + (1 - a) p)`` with ``p = sigmoid(s x + b)`` and x from a linear layer takes six operators
over all events of all candidates. Let the layer give ``y = s x + b`` instead, by scaled weights:
then x is ``(y - b) / s``, and with ``r = a / (1 - a)`` the gate is ``(y - b) (r + sigmoid(y))``
times a constant, which the next layer's weights take in. Four operators are left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx import Node

from optimize.flat_graph import arguments, aten, stand_in
from optimize.user_once.rewrites.gates import find_gate

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from optimize.flat_graph import FlatGraph
    from optimize.user_once.cost import Request

# Nearer to a = 1, or to a scale of nothing, the division would cost digits.
_LEAST = 1e-2


def fold_standardized_gates(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001
    """Fold what standardizes a gate's input into the linear layer that the input comes from."""
    done = []
    for node in graph.nodes:
        found = find_gate(graph, node)
        if found is None:
            continue
        p, x, other = found
        a, layer = graph.held(other), arguments(x)
        standard = _standard(graph, p, x)
        weight = graph.held(layer.get("weight")) if x.target is aten.linear.default else None
        if a is None or a.dim() > 1 or standard is None or weight is None:
            continue
        bias = graph.held(layer["bias"])
        if (layer["bias"] is not None and bias is None) or not _feeds_only(x, node):
            continue
        scale, shift = (each.double().expand(len(weight)) for each in standard)
        rest = (1 - a.double()).expand(len(weight))
        if min(rest.abs().min(), scale.abs().min()) < _LEAST:
            continue
        offset = shift if bias is None else bias.double() * scale + shift

        def constant(name: str, value: Tensor, like: Tensor = weight, at: Node = node) -> Node:
            return graph.constant(f"{at.name}_{name}", value.to(like.dtype), at)

        call = graph.module.graph.call_function
        new_weight = constant("weight", weight.double() * scale.unsqueeze(1))
        new_bias, base = constant("bias", offset), constant("shift", shift)
        share = constant("share", a.double() / rest)
        with graph.module.graph.inserting_before(node):
            y = call(aten.linear.default, (layer["input"], new_weight, new_bias))
            open_ = call(aten.add.Tensor, (call(aten.sigmoid.default, (y,)), share))
            value = call(aten.mul.Tensor, (call(aten.sub.Tensor, (y, base)), open_))
        _take_in(graph, node, value, rest / scale, weight.dtype)
        done.append(f"gate of {len(weight)} channels, standardized by its layer")
    graph.clean()
    return done


def _standard(graph: FlatGraph, p: Node, x: Node) -> tuple[Tensor, Tensor] | None:
    """Return s and b of ``p = sigmoid(s x + b)``."""
    if not isinstance(p, Node) or p.target is not aten.sigmoid.default:
        return None
    shifted = p.args[0]
    if not isinstance(shifted, Node) or shifted.target is not aten.add.Tensor:
        return None
    scaled, shift = shifted.args[0], graph.held(shifted.args[1])
    if not isinstance(scaled, Node) or scaled.target is not aten.mul.Tensor:
        return None
    scale = graph.held(scaled.args[1])
    fits = scaled.args[0] is x and arguments(shifted)["alpha"] == 1
    if not fits or scale is None or shift is None or max(scale.dim(), shift.dim()) > 1:
        return None
    return scale, shift


def _feeds_only(value: Node, node: Node) -> bool:
    """Whether nothing but a node comes of a value, by whatever ways."""
    return all(user is node or (user.users and _feeds_only(user, node)) for user in value.users)


def _take_in(graph: FlatGraph, node: Node, value: Node, factor: Tensor, dtype: torch.dtype) -> None:
    """Let ``value · factor`` stand for a node, the factor in weights where only layers read it."""
    readers: list[tuple[Node, dict[str, Any], Tensor]] = []
    for user in node.users:
        given = arguments(user)
        weight = graph.held(given.get("weight")) if user.target is aten.linear.default else None
        if weight is None or given["input"] is not node:
            break
        readers.append((user, given, weight))
    if len(readers) == len(node.users):
        for user, given, weight in readers:
            scaled = (weight.double() * factor).to(weight.dtype)
            user.args = (value, graph.constant(f"{user.name}_weight", scaled, user), given["bias"])
            user.kwargs = {}
        return
    held = graph.constant(f"{node.name}_factor", factor.to(dtype), node)
    with graph.module.graph.inserting_before(node):
        stand_in(node, graph.module.graph.call_function(aten.mul.Tensor, (value, held)))
