"""Layers with one output: their bias is added to numbers.

``x W + b`` of ``[rows, L, 1]`` adds b to vectors of one element, which runtimes do one by one; to
``[rows, L]`` they add it in one sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from optimize.flat_graph import arguments, aten, stand_in

if TYPE_CHECKING:
    from optimize.flat_graph import FlatGraph
    from optimize.user_once.cost import Request


def add_scalar_biases(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - pays
    """Add the bias of layers with one output after that dimension is taken away."""
    shapes, done = graph.shapes(), []
    call = graph.module.graph.call_function
    for node in graph.nodes:
        shape = shapes.get(node, ())
        if node.target is not aten.linear.default or len(shape) < 3 or shape[-1] != 1:
            continue
        given = arguments(node)
        if given["bias"] is None:
            continue
        with graph.module.graph.inserting_before(node):
            product = call(aten.linear.default, (given["input"], given["weight"]))
            numbers = call(aten.squeeze.dim, (product, -1))
            biased = call(aten.add.Tensor, (numbers, given["bias"]))
            vectors = call(aten.unsqueeze.default, (biased, -1))
        stand_in(node, vectors, shapes)
        done.append(f"bias of a layer with one output, {abs(shape[-2])} places")
    graph.clean()
    return done
