"""Slices of columns that were put side by side become the columns themselves.

A module that takes one matrix of all features slices it apart again. In its graph every value would
depend on every feature, the user's with the candidates', so that nothing could be computed once a
request. What a slice reads is known from the sizes, so this rewrite is exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import Node

_WHOLE = 2**63 - 1


def unpack_columns(program: ExportedProgram) -> int:
    """Let readers of a concatenation's parts read the parts, in place.

    Args:
        program: From ``torch.export``, before decompositions.

    Returns:
        How many slices are gone.
    """
    import torch

    aten = torch.ops.aten
    graph = program.graph_module.graph
    outputs = set(graph.output_node().all_input_nodes)
    written = _written(graph)
    replaced = 0
    for node in list(graph.nodes):
        if node.op != "call_function" or node in outputs:
            continue
        with graph.inserting_before(node):
            if node.target is aten.slice.Tensor:
                made = _unpacked(node, graph, written)
                replaced += made is not None
            elif node.target is aten.sym_size.int:
                made = _rows_of_a_part(node, graph)
            else:
                continue
        if made is not None:
            node.replace_all_uses_with(made)
    if replaced:
        graph.eliminate_dead_code()
        graph.lint()
        program.graph_module.recompile()
    return replaced


def parts_read(node: Node) -> tuple[list[Node], bool] | None:
    """Return the parts of a concatenation that ``node`` reads, if it slices one where it joined.

    Returns:
        The parts in order, and whether they are read whole; None if the node is no such slice, or
        sizes depend on the rows.
    """
    import torch

    if node.target is not torch.ops.aten.slice.Tensor:
        return None
    source, dimension, first, last, step = _slice(node)
    source = _behind_whole_slices(source)
    parts = _parts(source, dimension)
    if parts is None:
        return None
    sizes = [part.meta["val"].shape[dimension] for part in parts]
    if not all(isinstance(each, int) for each in (*sizes, first, last)):
        return None
    total = sum(sizes)
    first, last = (max(0, each + total) if each < 0 else min(each, total) for each in (first, last))
    read, begin, bounds = [], 0, {0}
    for part, size in zip(parts, sizes, strict=True):
        if begin < last and begin + size > first:
            read.append(part)
        begin += size
        bounds.add(begin)
    return read, bool(read) and step == 1 and {first, last} <= bounds


def _unpacked(node: Node, graph: Any, written: set[Node]) -> Node | None:
    """Return what stands for a slice of whole parts: the part, or the few put side by side."""
    import torch

    found = parts_read(node)
    if found is None or not found[1]:
        return None
    parts, _ = found
    cat = _behind_whole_slices(_slice(node)[0])
    if written.intersection((cat, *parts)):
        return None  # what is written in place afterwards would be read before or elsewhere
    if len(parts) == 1:
        return parts[0]
    made: Node = graph.call_function(torch.ops.aten.cat.default, (parts, _slice(node)[1]))
    made.meta = dict(node.meta)
    return made


def _written(graph: Any) -> set[Node]:
    """Return the nodes whose memory an operator writes to, and those that share it as views."""
    found: set[Node] = set()
    for node in graph.nodes:
        schema = getattr(node.target, "_schema", None)
        if node.op != "call_function" or schema is None or not schema.is_mutable:
            continue
        for place, argument in enumerate(schema.arguments):
            if argument.alias_info is None or not argument.alias_info.is_write:
                continue
            value = node.args[place] if place < len(node.args) else node.kwargs[argument.name]
            while value is not None and value not in found:
                found.add(value)
                value = _viewed(value)
    return found


def _viewed(node: Node) -> Node | None:
    """Return what a node is a view of, if it is one."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None or not node.args:
        return None
    shares = any(each.alias_info is not None for each in schema.returns)
    return node.args[0] if shares else None  # type: ignore[return-value]


def _rows_of_a_part(node: Node, graph: Any) -> Node | None:
    """Return the size of the first part, which is that of all, along another dimension."""
    import torch

    source, dimension = node.args
    parts = _parts(_behind_whole_slices(source), None)
    if parts is None or dimension == _across(_behind_whole_slices(source)):
        return None
    made: Node = graph.call_function(torch.ops.aten.sym_size.int, (parts[0], dimension))
    made.meta = dict(node.meta)
    return made


def _behind_whole_slices(source: Any) -> Any:
    """Return what was sliced from its first to its last place: ``X[:]`` is X."""
    import torch

    while getattr(source, "target", None) is torch.ops.aten.slice.Tensor:
        inner, _, first, last, step = _slice(source)
        if (first, last, step) != (0, _WHOLE, 1):
            break
        source = inner
    return source


def _parts(source: Any, dimension: int | None) -> list[Node] | None:
    """Return what a concatenation along ``dimension`` (None: any) is made of."""
    import torch

    if getattr(source, "target", None) is not torch.ops.aten.cat.default:
        return None
    if dimension is not None and _across(source) != dimension:
        return None
    parts: list[Node] = list(source.args[0])
    return parts


def _across(cat: Any) -> int:
    across: int = cat.args[1] if len(cat.args) > 1 else 0
    return across % _dimensions(cat)


def _slice(node: Node) -> tuple[Node, int, Any, Any, Any]:
    """Return what a slice is of, its dimension from 0, its first place, the one after its last."""
    values: list[Any] = [*node.args, *(None,) * (5 - len(node.args))]
    source, dimension, first, last, step = values
    dimension = (dimension or 0) % _dimensions(source)
    return (
        source,
        dimension,
        0 if first is None else first,
        _WHOLE if last is None else last,
        1 if step is None else step,
    )


def _dimensions(node: Node) -> int:
    dimensions: int = node.meta["val"].dim()
    return dimensions
