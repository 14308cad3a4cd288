"""Numbers picked at fixed places, as copies of runs.

Rankers pick the pairs of an interaction out of a square of products by two lists of places.
Inductor looks each number up by itself, and checks its places. Where places count up they are a
run, and a run is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from optimize.flat_graph import arguments, aten

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape

# Runs that are shorter on average save less than so many copies cost.
_SHORTEST = 4


def pick_in_runs(graph: FlatGraph) -> list[str]:
    """Make picks at fixed places copies of runs, in place; return a line for each."""
    picks = graph.module.graph.find_nodes(op="call_function", target=aten.index.Tensor)
    if not picks:
        return []
    shapes = graph.shapes()
    done = []
    for node in picks:
        runs = _runs(graph, node, shapes)
        if not runs:
            continue
        call = graph.module.graph.call_function
        with graph.module.graph.inserting_before(node):
            rows = call(aten.flatten.using_ints, (node.args[0], 1, 2))
            parts = [call(aten.slice.Tensor, (rows, 1, each.start, each.stop)) for each in runs]
            node.replace_all_uses_with(call(aten.cat.default, (parts, 1)))
        number = sum(len(each) for each in runs)
        done.append(f"{number} numbers picked at fixed places: {len(runs)} runs copied")
    graph.clean()
    return done


def _runs(graph: FlatGraph, node: Node, shapes: Mapping[Node, Shape]) -> list[range]:
    """Return the runs that are picked of each row of ``[rows, I, J]``; none if they are short."""
    given = arguments(node)
    shape, indices = shapes.get(given["self"], ()), given["indices"]
    if len(shape) != 3 or shape[0] >= 0 or len(indices) != 3 or indices[0] is not None:
        return []
    held = [graph.held(each) for each in indices[1:]]
    places = [each for each in held if each is not None and each.dtype == torch.int64]
    if len(places) != 2 or places[0].dim() != 1 or places[0].shape != places[1].shape:
        return []
    if min(shape[1:]) < 1 or any(int(each.min()) < 0 for each in places if len(each)):
        return []
    runs = _counting_up(places[0] * shape[2] + places[1])
    return runs if len(runs) * _SHORTEST <= len(places[0]) else []


def _counting_up(places: Tensor) -> list[range]:
    breaks = (torch.where(places.diff() != 1)[0] + 1).tolist()
    runs = zip([0, *breaks], [*breaks, len(places)], strict=True)
    first = places.tolist()
    return [range(first[start], first[start] + end - start) for start, end in runs if end > start]
