"""Rows that training hardly met share one: their mean, weighted by how often each was met.

::

    IDs ──► places[IDs] ──► rows[places]       the kept rows in their order, then the shared one

Where the kept rows are the first of the table (IDs in order of frequency) the place is the smaller
of the ID and the last row. Else places are a table of their own, of as many bytes as they need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from optimize.flat_graph import aten
from optimize.tables.program import lookup_ids
from optimize.tables.report import TableReport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table
    from optimize.tables.traffic import Traffic

# What folding must save, of a table's bytes, to be worth an operator before each lookup.
_WORTH = 0.05


def fold_rare_rows(
    graph: FlatGraph,
    tables: list[Table],
    traffic: Mapping[str, Traffic],
    left: Mapping[str, str],
    min_count: int,
) -> list[TableReport]:
    """Let rows that were met fewer than ``min_count`` times share one, in place.

    Rows that stand for an empty place stay what they are.

    Args:
        graph: Of either layout.
        tables: All of its tables.
        traffic: Of those to fold, by name.
        left: Why others are left alone, by name.
        min_count: A row that is kept was read so often in training.

    Returns:
        A line for each table.
    """
    reports = []
    for table in tables:
        reason = left.get(table.name, "")
        if reason:
            reports.append(TableReport.kept(table, reason))
            continue
        of_table = traffic[table.name]
        if not of_table.features:
            reports.append(TableReport.kept(table, "no counts of the IDs that read it"))
            continue
        kept = of_table.counts >= min_count
        kept[of_table.kept] = True
        reports.append(_fold(graph, table, of_table, kept))
    graph.clean()
    return reports


def shared_row(weight: Tensor, counts: Tensor, rare: Tensor) -> Tensor:
    """Return the mean of some rows, weighted by their counts: ``[1, D]``.

    Args:
        weight: The table ``[rows, D]``.
        counts: int64 ``[rows]``. Where all that are meant have none, each weighs as much.
        rare: Which are meant, bool ``[rows]``.
    """
    weights = counts[rare].double()
    if not weights.any():
        weights = torch.ones_like(weights)
    rows = weight[rare].double()
    return ((weights[:, None] * rows).sum(0, keepdim=True) / weights.sum()).to(weight.dtype)


def _fold(graph: FlatGraph, table: Table, traffic: Traffic, kept: Tensor) -> TableReport:
    rows, count = len(kept), int(kept.sum())
    first = bool(kept[:count].all())
    width = 0 if first else _bytes_for(count)
    row_bytes = table.bytes // rows
    new_bytes = (count + 1) * row_bytes + rows * width
    if rows - count < 2 or new_bytes > (1 - _WORTH) * table.bytes:
        reason = f"{rows - count:,} of {rows:,} rows are rare: folding them saves too little"
        return TableReport.kept(table, reason)
    folded = torch.cat([table.weight[kept], shared_row(table.weight, traffic.counts, ~kept)])
    name = "table_" + "".join(x if x.isalnum() else "_" for x in table.name) + "_folded"
    before = table.lookups[0]
    source = graph.constant(name, folded, before)
    call = graph.module.graph.call_function
    held = None
    if not first:
        places = torch.full((rows,), count)
        places[kept] = torch.arange(count)
        held = graph.constant(f"{name}_places", in_bytes(places, width), before)
    for node in table.lookups:
        with graph.module.graph.inserting_before(node):
            ids = lookup_ids(node)
            if held is None:
                at = call(aten.clamp_max.default, (ids, count))
            else:
                at = _place(graph, held, ids, width)
            node.replace_all_uses_with(call(aten.embedding.default, (source, at)))
        graph.module.graph.erase_node(node)
    return TableReport.folded(table, new_bytes, kept=count, lookup_bytes=row_bytes + width)


def in_bytes(places: Tensor, width: int) -> Tensor:
    """Return whole numbers ``[rows]`` as uint8 ``[rows, width]``, the lowest byte first."""
    return torch.stack([(places >> 8 * each & 255) for each in range(width)], 1).to(torch.uint8)


def _bytes_for(count: int) -> int:
    """Return how many bytes hold the numbers from 0 to ``count``."""
    return (count.bit_length() + 7) // 8


def _place(graph: FlatGraph, held: Node, ids: Node, width: int) -> Node:
    """Look places up and put them together from their bytes: int64, of the IDs' shape."""
    call = graph.module.graph.call_function
    parts = call(aten.to.dtype, (call(aten.embedding.default, (held, ids)), torch.int64))
    if width == 1:
        return call(aten.squeeze.dim, (parts, -1))
    weights = graph.constant("place_bytes", torch.tensor([256**x for x in range(width)]), parts)
    return call(aten.sum.dim_IntList, (call(aten.mul.Tensor, (parts, weights)), [-1]))
