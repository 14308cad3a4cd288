"""Tables in fewer bits, in a graph: rows are looked up as codes, and become floats afterwards.

::

    IDs ──► codes[IDs], int8 ───────────────► float ──┐ 4 bits: two values apart
      └───► levels[IDs], uint8 ──► scales[level] ─────┴─ product ──► rows, as they were

Only what is looked up becomes floats, so neither the file nor the memory ever holds the table in
full, and no runtime can fold it back: everything after the gather depends on the IDs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch

from optimize.flat_graph import aten
from optimize.tables.codes import (
    Bits,
    decode,
    encode,
    part_of_columns,
    parts_of,
    row_errors,
    scale_levels,
)
from optimize.tables.program import SCALES, lookup_ids
from optimize.tables.report import TableReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table

Width = Literal["int8", "int4", "fp16", "bf16"]
BITS: dict[str, Bits] = {"int8": 8, "int4": 4}
HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


def quantize_tables(
    graph: FlatGraph, tables: list[Table], widths: Mapping[str, Width], left: Mapping[str, str]
) -> list[TableReport]:
    """Give tables other widths, in place.

    Args:
        graph: Of either layout.
        tables: All of its tables.
        widths: The new width of each that gets one, by name.
        left: Why others are left alone, by name.

    Returns:
        A line for each table.
    """
    left = dict(left)
    fitting = {}
    for table in tables:
        if table.name not in widths:
            continue
        width = fitting_width(table.weight, widths[table.name])
        if width is None:
            left[table.name] = "holds values beyond what fp16 holds"
        else:
            fitting[table.name] = width
    widths = fitting
    changed = [each for each in tables if each.name in widths]
    scales = levels_of(changed, widths)
    first = min((place for t in changed for place in _places(graph, t)), default=None)
    held = None
    if first is not None and any(widths[each.name] in BITS for each in changed):
        held = graph.constant(SCALES, scales, graph.nodes[first])
    reports = []
    for table in tables:
        if table in changed:
            reports.append(_replace(graph, table, widths[table.name], scales, held))
        else:
            reports.append(TableReport.kept(table, left.get(table.name, "")))
    graph.clean()
    return reports


def fitting_width(weight: Tensor, width: Width) -> Width | None:
    """Return the width to give a table that is asked for one; None if it has to stay.

    A table of one column, or two with 4 bits, takes no more bytes in fp16 than in codes with a
    scale each, and is exacter.
    """
    wide = width in BITS and bytes_at(weight, width) >= bytes_at(weight, "fp16")
    if width == "fp16" or wide:
        overflows = bool((weight.abs() > torch.finfo(torch.float16).max).any())
        return (None if width == "fp16" else width) if overflows else "fp16"
    return width


def bytes_at(weight: Tensor, width: Width) -> int:
    """Return the bytes of a table ``[rows, D]`` at a width."""
    rows, dimension = weight.shape
    if width in HALVES:
        return 2 * rows * dimension
    bits = BITS[width]
    return rows * (math.ceil(bits * dimension / 8) + len(parts_of(dimension, bits)))


def levels_of(tables: list[Table], widths: Mapping[str, Width]) -> Tensor:
    """Return the scales that tables of given widths share, float32 ``[256, 1]``."""
    return scale_levels(
        (each.weight, BITS[widths[each.name]]) for each in tables if widths[each.name] in BITS
    )


def rounded(weight: Tensor, width: Width, scales: Tensor) -> Tensor:
    """Return a table as it will be read at a width, in its own dtype ``[rows, D]``."""
    if width in HALVES:
        return weight.to(HALVES[width]).to(weight.dtype)
    bits = BITS[width]
    codes = encode(weight, bits, scales)
    return decode(codes, bits, scales, weight.shape[1]).to(weight.dtype)


def _replace(
    graph: FlatGraph, table: Table, width: Width, scales: Tensor, held: Node | None
) -> TableReport:
    """Let a table's lookups read it at another width."""
    name = "table_" + "".join(x if x.isalnum() else "_" for x in table.name) + f"_{width}"
    before = table.lookups[0]
    if width in HALVES:
        narrow = table.weight.to(HALVES[width])
        source = graph.constant(name, narrow, before)
        write = partial(_widened, graph, source)
        new_bytes, decoded = narrow.nbytes, narrow.to(table.weight.dtype)
    else:
        bits = BITS[width]
        codes = encode(table.weight, bits, scales)
        columns = part_of_columns(table.weight.shape[1], bits)
        if held is None:
            raise AssertionError("codes need scales")
        parts = _Coded(
            bits=bits,
            dimension=table.weight.shape[1],
            codes=graph.constant(name, codes.codes, before),
            levels=graph.constant(f"{name}_levels", codes.levels, before),
            scales=held,
            columns=None
            if codes.levels.shape[1] == 1
            else graph.constant(f"{name}_parts", columns, before),
        )
        write = partial(_multiplied, graph, parts)
        new_bytes = codes.codes.nbytes + codes.levels.nbytes
        decoded = decode(codes, bits, scales, table.weight.shape[1])
    for node in table.lookups:
        with graph.module.graph.inserting_before(node):
            rows = write(lookup_ids(node))
            if table.weight.dtype != torch.float32 or width in HALVES:
                rows = graph.module.graph.call_function(aten.to.dtype, (rows, table.weight.dtype))
        node.replace_all_uses_with(rows)
        graph.module.graph.erase_node(node)
    return TableReport.changed(table, width, new_bytes, row_errors(table.weight, decoded))


@dataclass(frozen=True)
class _Coded:
    """A table's parts in the graph: see `optimize.tables.codes.Codes`."""

    bits: Bits
    dimension: int
    codes: Node
    levels: Node
    scales: Node
    columns: Node | None  # which part each is in, if there are several


def _widened(graph: FlatGraph, source: Node, ids: Node) -> Node:
    """Look rows up as they are held: ``[…, D]``."""
    return graph.module.graph.call_function(aten.embedding.default, (source, ids))


def _multiplied(graph: FlatGraph, table: _Coded, ids: Node) -> Node:
    """Look codes and scales up and multiply them: float32 ``[…, D]``."""
    call = graph.module.graph.call_function
    codes = call(aten.embedding.default, (table.codes, ids))
    values = call(aten.to.dtype, (codes, torch.float32))
    if table.bits == 4:
        values = _apart(graph, values, table.dimension)
    level = call(aten.embedding.default, (table.levels, ids))  # uint8 […, G]
    level = call(aten.to.dtype, (level, torch.int64))
    if table.columns is None:
        level = call(aten.squeeze.dim, (level, -1))
        scale = call(aten.embedding.default, (table.scales, level))  # […, 1]
    else:
        scale = call(aten.embedding.default, (table.scales, level))  # […, G, 1]
        scale = call(aten.squeeze.dim, (scale, -1))
        scale = call(aten.index_select.default, (scale, -1, table.columns))  # […, D]
    return call(aten.mul.Tensor, (values, scale))


def _apart(graph: FlatGraph, packed: Node, dimension: int) -> Node:
    """Take two values out of each byte, as `optimize.tables.codes.unpack` does: ``[…, D]``."""
    call = graph.module.graph.call_function
    second = call(aten.floor.default, (call(aten.mul.Tensor, (packed, 1 / 16)),))
    whole = call(aten.mul.Tensor, (second, 16.0))
    first = call(aten.sub.Tensor, (call(aten.sub.Tensor, (packed, 8.0)), whole))
    values = call(aten.cat.default, ([first, second], -1))
    return call(aten.slice.Tensor, (values, -1, 0, dimension)) if dimension % 2 else values


def _places(graph: FlatGraph, table: Table) -> list[int]:
    order = {node: place for place, node in enumerate(graph.nodes)}
    return [order[each] for each in table.lookups]
