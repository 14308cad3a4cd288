"""What is put side by side for every candidate: the user's neighbours once, and no detours.

- Reshaping ``stack(vectors, 1)`` of ``[rows, D]`` to ``[rows, F D]`` is putting them side by side;
  said so, a linear layer over it can be split by side. So is an expansion of what stands side by
  side.
- In a concatenation of both sides, runs of the user's values become one value, which is repeated
  with one gather.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from optimize.flat_graph import arguments, aten, dimension, stand_in

if TYPE_CHECKING:
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape
    from optimize.user_once.cost import Request

_STACKS = {aten.stack.default, aten.cat.default}
_FLATTENS = {aten.flatten.using_ints, aten.reshape.default}


def flatten_stacks(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - no cost
    """Make flattened stacks of vectors concatenations, and move expansions into them."""
    done: list[str] = []
    while more := _flatten_stacks(graph):  # stacks of stacks come off one by one
        done += more
    while _move_unsqueezes(graph):
        pass
    return done


def _flatten_stacks(graph: FlatGraph) -> list[str]:
    done = []
    shapes = graph.shapes()
    call = graph.module.graph.call_function
    for node in graph.nodes:
        source = arguments(node).get("self") if node.target in _FLATTENS else None
        if source is None or node not in shapes or not _is_stack(source, shapes):
            continue
        if shapes[node] != (-1, shapes[source][1] * shapes[source][2]):
            continue
        parts = arguments(source)["tensors"]
        if any(each not in shapes for each in parts):
            continue
        with graph.module.graph.inserting_before(node):
            flat = [
                each if len(shapes[each]) == 2 else call(aten.flatten.using_ints, (each, 1, 2))
                for each in parts
            ]
            joined = call(aten.cat.default, (flat, 1))
        stand_in(node, joined, shapes)
        done.append(f"flattened stack of {len(parts)} values")
    graph.clean()
    return done


def _is_stack(source: Node, shapes: dict[Node, Shape]) -> bool:
    """Whether a value is ``[rows, F, D]``, put together along F."""
    shape = shapes.get(source, ())
    if source.target not in _STACKS or len(shape) != 3 or shape[0] != -1:
        return False
    return dimension(arguments(source)["dim"], 3) == 1


def _move_unsqueezes(graph: FlatGraph) -> bool:
    """Move a new dimension before the columns into what the columns are put together from."""
    shapes = graph.shapes()
    call = graph.module.graph.call_function
    moved = False
    for node in graph.nodes:
        source = arguments(node).get("self") if node.target is aten.unsqueeze.default else None
        if source is None or source.target is not aten.cat.default or source not in shapes:
            continue
        given, rank = arguments(source), len(shapes[source])
        at = dimension(arguments(node)["dim"], rank + 1)
        if dimension(given["dim"], rank) != rank - 1 or at == rank:
            continue
        with graph.module.graph.inserting_before(node):
            parts = [call(aten.unsqueeze.default, (each, at)) for each in given["tensors"]]
            node.replace_all_uses_with(call(aten.cat.default, (parts, -1)))
        moved = True
        break  # shapes of what was made are not known yet
    graph.clean()
    return moved


def group_concats(graph: FlatGraph, request: Request) -> list[str]:  # noqa: ARG001 - always pays
    """Put neighbours of the user's side together before they are repeated."""
    done = []
    sides = graph.sides()
    call = graph.module.graph.call_function
    for node in graph.nodes:
        if node.target not in _STACKS or sides[node] != "both":
            continue
        given: dict[str, Any] = arguments(node)
        parts, along = given["tensors"], given["dim"]
        runs = [
            (own, list(run))
            for own, run in itertools.groupby(parts, lambda x: sides[x] in {"user", "none"})
        ]
        if all(len(run) == 1 for own, run in runs if own):
            continue
        with graph.module.graph.inserting_before(node):
            values: list[Node] = []
            for own, run in runs:
                # Stacked runs are put behind each other; others stand as they are.
                whole = own or node.target is aten.stack.default
                values += [call(node.target, (run, along))] if whole else run
            grouped = call(aten.cat.default, (values, along))
        stand_in(node, grouped, sides)
        gathered = sum(len(run) for own, run in runs if own)
        times = sum(own for own, _ in runs)
        done.append(f"{gathered} of {len(parts)} values repeated with {times} gathers")
    graph.clean()
    return done
