"""How often rows of a table are read, from how often training met IDs.

A lookup's IDs may be hashed, shifted or cut from a feature's: which row an ID reads is seen by
running what computes it, over every ID there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import SIZES
from optimize.partial import values_of
from optimize.tables.program import lookup_ids

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor
    from torch.fx import Node

    from optimize.flat_graph import FlatGraph
    from optimize.tables.program import Table
    from rankers.features import Feature, Signature
    from rankers.requests import Array


@dataclass(frozen=True)
class Traffic:
    """Of one table.

    Attributes:
        counts: How often training read each row, int64 ``[rows]``.
        features: By whose IDs.
        uncounted: Other features whose IDs read the table, uncounted.
        kept: Rows that stand for an empty place, int64.
    """

    counts: Tensor
    features: tuple[str, ...]
    uncounted: tuple[str, ...]
    kept: Tensor


def traffic_of(
    graph: FlatGraph, table: Table, signature: Signature, counts: Mapping[str, Array]
) -> Traffic:
    """Count the reads of a table's rows.

    Args:
        graph: Of either layout.
        table: One of its tables.
        signature: Of the graph's columns.
        counts: How often training met each ID, by feature.
    """
    # Of each feature the most that one lookup reads a row: two that read the same are one.
    reads: dict[str, Tensor] = {}
    others: set[str] = set()
    kept: list[Tensor] = []
    known = {each.name: each for each in signature.features}
    for lookup in table.lookups:
        ids = lookup_ids(lookup)
        features = features_read(graph, ids)
        kept += _padding_rows(graph, lookup, features, known)
        name = features[0] if len(features) == 1 else ""
        found = None if name not in counts else _reads(graph, ids, name, table, counts[name])
        if found is None:
            others |= {*features}
        else:
            reads[name] = torch.maximum(reads.get(name, found), found)
    rows = torch.zeros(len(table.weight), dtype=torch.int64)
    for found in reads.values():
        rows += found
    return Traffic(
        counts=rows,
        features=tuple(sorted(reads)),
        uncounted=tuple(sorted(others - {*reads})),
        kept=torch.unique(torch.cat(kept)),
    )


def padding_rows(graph: FlatGraph, table: Table, signature: Signature) -> Tensor:
    """Return the rows of a table that stand for an empty place, int64, ascending."""
    known = {each.name: each for each in signature.features}
    found = [
        rows
        for lookup in table.lookups
        for rows in _padding_rows(graph, lookup, features_read(graph, lookup_ids(lookup)), known)
    ]
    rows: Tensor = torch.unique(torch.cat(found))
    return rows


def _padding_rows(
    graph: FlatGraph, lookup: Node, features: Sequence[str], known: Mapping[str, Feature]
) -> list[Tensor]:
    """Return the rows that a lookup reads where a feature has padding, or was told are padding."""
    ids = lookup_ids(lookup)
    return [
        _padding_row(lookup),
        *(
            _evaluate(graph, ids, name, torch.full((1, *known[name].shape), padding))
            for name in features
            if name in known and (padding := known[name].padding) is not None
        ),
    ]


def _reads(graph: FlatGraph, ids: Node, feature: str, table: Table, counts: Array) -> Tensor | None:
    """Return how often one lookup read each row, int64 ``[rows]``; None if an ID reads several."""
    every = torch.arange(len(counts))
    read = _evaluate(graph, ids, feature, every)
    if len(read) != len(every):
        return None
    rows = torch.zeros(len(table.weight), dtype=torch.int64)
    return rows.index_add_(0, read, torch.from_numpy(counts))


def _padding_row(lookup: Node) -> Tensor:
    """Return the row that an embedding was told is padding, if it was: int64 ``[0 or 1]``."""
    given: Any = lookup.args[2] if len(lookup.args) > 2 else lookup.kwargs.get("padding_idx", -1)
    return torch.tensor([given] if isinstance(given, int) and given >= 0 else [], dtype=torch.int64)


def features_read(graph: FlatGraph, node: Node) -> list[str]:
    """Return the columns whose values a node depends on; how many rows there are is no value."""
    needed: set[Node] = set()
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if each in needed:
            continue
        needed.add(each)
        if each.target not in SIZES:
            waiting += each.all_input_nodes
    return [name for name, each in graph.placeholders.items() if each in needed]


def _evaluate(graph: FlatGraph, node: Node, feature: str, column: Tensor) -> Tensor:
    """Return a node's values, flat, for one feature's column; others are any, and as long."""
    found: Tensor = values_of(graph, [node], feature, column)[node]
    return found.reshape(-1).long()
