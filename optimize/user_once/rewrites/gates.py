"""A gate between x and a multiple of it, with less to write for each candidate.

DIN's Dice is ``p x + (1 - p) a x``: five operators over all events of all candidates. As
``x (a + p (1 - a))``, with a and ``1 - a`` constants, it is three.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.fx import Node

from optimize.flat_graph import arguments, aten

if TYPE_CHECKING:
    from typing import Any

    from optimize.flat_graph import FlatGraph
    from optimize.user_once.cost import Request


def shorten_gates(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - always pays
    """Factor what both halves of a gate are multiplied with."""
    done = []
    call = graph.module.graph.call_function
    for node in graph.nodes:
        found = find_gate(graph, node)
        if found is None:
            continue
        p, x, other = found
        a = graph.held(other)
        assert a is not None  # noqa: S101 - `find_gate` found it
        with graph.module.graph.inserting_before(node):
            rest = graph.constant(f"{node.name}_rest", 1 - a, node)
            share = call(aten.add.Tensor, (call(aten.mul.Tensor, (p, rest)), other))
            node.replace_all_uses_with(call(aten.mul.Tensor, (x, share)))
        done.append("gate between a value and a multiple of it")
    graph.clean()
    return done


def find_gate(graph: FlatGraph, node: Node) -> tuple[Node, Node, Node] | None:
    """Return p, x and the constant a of ``p x + (1 - p) a x``."""
    if node.target is not aten.add.Tensor or arguments(node)["alpha"] != 1:
        return None
    halves = [arguments(node)[name] for name in ("self", "other")]
    for one, other in (halves, halves[::-1]):
        first, second = _factors(one), _factors(other)
        if len(first) != 2 or len(second) != 3:
            continue
        for p, x in (first, first[::-1]):
            left = [each for each in second if each is not x and not _is_rest_of(each, p)]
            rests = [each for each in second if _is_rest_of(each, p)]
            if len(left) == 1 and len(rests) == 1 and graph.held(left[0]) is not None:
                return p, x, left[0]
    return None


def _factors(value: Any) -> list[Any]:
    """Return what a value is a product of."""
    if not isinstance(value, Node) or value.target is not aten.mul.Tensor:
        return [value]
    return [*_factors(value.args[0]), *_factors(value.args[1])]


def _is_rest_of(value: Any, p: Any) -> bool:
    """Whether a value is ``1 - p``."""
    if not isinstance(value, Node):
        return False
    given = arguments(value)
    if value.target is aten.rsub.Scalar:
        return given["self"] is p and given["other"] == 1 and given["alpha"] == 1
    if value.target is aten.sub.Tensor:
        return given["other"] is p and given["self"] == 1 and given["alpha"] == 1
    return False
