"""Make a diagram of a graph: what `grouping` found, with sizes, work and the frontier."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from optimize.diagnosis.trace import place_of, tensors
from optimize.user_once.diagram import Diagram, Edge, Group, Value
from optimize.user_once.grouping import NodeGroup, group_nodes
from optimize.user_once.work import VIEWS, node_works

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph, Shape, Side
    from optimize.user_once.cost import Request
    from optimize.user_once.work import NodeWork

# Two rows: a size of one would hide that it is the number of rows.
_ROWS = 2


def overview(
    graph: FlatGraph,
    sides: Mapping[Node, Side],
    request: Request,
    *,
    once: bool,
    shapes: Mapping[Node, Shape] | None = None,
) -> Diagram:
    """Return the diagram of a graph.

    Args:
        graph: Flat.
        sides: Of its values.
        request: That multiply-adds and bytes are those of.
        once: Whether the user's part runs once, or for each candidate as in a flat program.
        shapes: Of its values, if they are known already.
    """
    values = graph.run(graph.sample(_ROWS))
    shapes = graph.shapes() if shapes is None else shapes
    works = node_works(graph, sides, request, once=once, shapes=shapes)
    names = {node: name for name, node in graph.placeholders.items()}
    groups = group_nodes(graph, sides, values)
    places = {node: place for place, group in enumerate(groups) for node in group.nodes}
    flows: dict[tuple[int, int], dict[str, Value]] = {}
    for node, place in places.items():
        for source in node.all_input_nodes:
            if source in places and places[source] != place:
                value = _value(source, shapes, values, names)
                flows.setdefault((places[source], place), {})[value.name] = value
    return Diagram(
        groups=tuple(_group(each, shapes, works, names) for each in groups),
        edges=tuple(
            Edge(
                source=source,
                target=target,
                values=tuple(each.values()),
                crosses=groups[source].side == "user" and groups[target].side in {"item", "both"},
            )
            for (source, target), each in sorted(flows.items())
        ),
    )


def _group(
    group: NodeGroup,
    shapes: Mapping[Node, Shape],
    works: Mapping[Node, NodeWork],
    names: Mapping[Node, str],
) -> Group:
    if group.is_column:
        columns = tuple(names[node] for node in group.nodes)
        label, operators = _span(columns), columns
    else:
        computing = [node for node in group.nodes if node.target not in VIEWS] or group.nodes
        operators = tuple(_operator(node) for node in computing)
        label = group.path or _main(group)
    done = [works[node] for node in group.nodes if node in works]
    return Group(
        label=label,
        kind="column" if group.is_column else "operators",
        side=group.side,
        operators=operators,
        times=len(group.nodes) if group.is_column else group.times,
        shape=_row(shapes.get(group.nodes[-1], ())),
        multiply_adds=sum(each.multiply_adds for each in done),
        gathered_bytes=sum(each.gathered_bytes for each in done),
    )


def _value(
    node: Node, shapes: Mapping[Node, Shape], values: Mapping[Node, Any], names: Mapping[Node, str]
) -> Value:
    shape = shapes.get(node, ())
    size = sum(each.element_size() for each in tensors(values[node])[:1])
    return Value(names.get(node, node.name), _row(shape), prod(map(abs, shape)) * size)


def _row(shape: Shape) -> tuple[int, ...]:
    """Return the shape of one row: its dimension of rows gone, one with rows merged in divided."""
    return tuple(abs(size) for size in shape if size != -1)


def _operator(node: Node) -> str:
    return place_of(node).operator.removeprefix("aten.").strip("_")


def _main(group: NodeGroup) -> str:
    """Return what a group mainly does: what it began with, where it is heavy."""
    computing = [node for node in group.nodes if node.target not in VIEWS] or group.nodes
    return _operator(computing[0])


def _span(names: Sequence[str]) -> str:
    """Return names as a person would: all of a few, the first and the last of many."""
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]}"
