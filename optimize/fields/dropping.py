"""Features taken out of a graph: a constant where each was, and no column any more."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from optimize.fields.reading import sizes_of
from optimize.flat_graph import aten
from rankers.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.fields.constants import Constant
    from optimize.flat_graph import FlatGraph


def drop_field(graph: FlatGraph, constant: Constant) -> tuple[FlatGraph, int]:
    """Take a feature out.

    Args:
        graph: Flat, with another feature; changed in place.
        constant: What stands in the feature's place.

    Returns:
        The graph without the column, and how many bytes of weights went with it.

    Raises:
        UserError: The program reads a size of it that nothing else has.
    """
    before = held_bytes(graph)
    name = constant.feature
    column = graph.placeholders[name]
    shapes = graph.shapes()
    call = graph.module.graph.call_function
    first = [each for each in graph.nodes if each.op == "placeholder"][-1].next
    with graph.module.graph.inserting_before(first):
        rows = call(aten.sym_size.int, (_whose_rows(graph, name), 0))
    for size in sizes_of(graph, name):
        _read_again(graph, size, shapes.get(size), rows, first)
    for node, value in constant.values.items():
        held = graph.constant(f"without_{name}", value, first)
        with graph.module.graph.inserting_before(first):
            same = call(aten.expand.default, (held, [rows, *value.shape[1:]]))
        node.replace_all_uses_with(same)
    graph.clean()
    graph.module.graph.erase_node(column)
    names = tuple(each for each in graph.names if each != name)
    sample = graph.sample

    def without(rows: int) -> Mapping[str, Tensor]:
        drawn = sample(rows)
        return {each: drawn[each] for each in names}

    # Without what checks that it is called with the columns that it had.
    module = torch.fx.GraphModule(graph.module, graph.module.graph)
    module.graph.set_codegen(torch.fx.graph.CodeGen())
    smaller = replace(graph, module=module, names=names, user=graph.user - {name}, sample=without)
    smaller.clean()
    return smaller, before - held_bytes(smaller)


def held_bytes(graph: FlatGraph) -> int:
    """Return the bytes of all weights and constants of a graph, each once."""
    module = graph.module
    held = {
        each.untyped_storage().data_ptr(): each.nbytes
        for each in (*module.parameters(), *module.buffers())
    }
    return sum(held.values())


def _whose_rows(graph: FlatGraph, name: str) -> Node:
    """Return another column to count rows of: of the same side, if there is one.

    What stands in a user's place is then the user's, and can be computed once a request.
    """
    own = name in graph.user
    others = [each for each in graph.names if each != name]
    same_side = [each for each in others if (each in graph.user) == own]
    return graph.placeholders[(same_side or others)[0]]


def _read_again(
    graph: FlatGraph, size: Node, shape: tuple[int, ...] | None, rows: Node, first: Node
) -> None:
    """Let what read a size of a column that goes read it elsewhere, or as a number.

    Raises:
        UserError: It is neither fixed nor a multiple of the rows.
    """
    if shape is None:
        raise UserError(f"a size that {size} reads of it is neither fixed nor one of rows")
    (value,) = shape
    if value >= 0:
        for reader in list(size.users):
            args: Any = torch.fx.map_arg(reader.args, lambda x: value if x is size else x)
            reader.args = args
        return
    again = rows
    if value < -1:
        with graph.module.graph.inserting_before(first):
            again = graph.module.graph.call_function(operator.mul, (rows, -value))
    size.replace_all_uses_with(again)
