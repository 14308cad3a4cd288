"""Parts of a program, evaluated alone: what it makes of one feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph


def values_of(
    graph: FlatGraph, nodes: Collection[Node], feature: str, column: Tensor
) -> dict[Node, Any]:
    """Return what nodes that are made of one feature alone are, for some rows of it.

    Args:
        graph: The program.
        nodes: Of its graph. Of other features no more than sizes is read; those are any rows.
        feature: Its name.
        column: ``[rows, …]``.
    """
    needed: set[Node] = set()
    waiting = [*nodes]
    while waiting:
        each = waiting.pop()
        if each not in needed:
            needed.add(each)
            waiting += each.all_input_nodes
    any_row = graph.sample(1)
    values: dict[Node, Any] = {}
    for name, each in graph.placeholders.items():
        if each in needed:
            same = any_row[name].expand(len(column), *any_row[name].shape[1:])
            values[each] = column.to(same.dtype) if name == feature else same
    with torch.no_grad():
        for each in graph.nodes:
            if each not in needed or each in values:
                continue
            held = graph.held(each)
            if held is not None:
                values[each] = held
            else:
                args, kwargs = torch.fx.map_arg((each.args, each.kwargs), values.__getitem__)
                values[each] = each.target(*args, **kwargs)  # type: ignore[operator]
    return {each: values[each] for each in nodes}
