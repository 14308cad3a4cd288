"""Which IDs each embedding table is asked for: the graph is run with the IDs that a feature allows.

Offsets, hashing and clamping between a feature and its table are simply carried out, so what is
found is what the table would be asked for, whatever the module does to an ID on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from optimize.diagnosis.trace import operator_name, tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor
    from torch.fx import Node

    from optimize.diagnosis.trace import Trace
    from rankers.requests import Columns

_EMBEDDINGS = ("aten.embedding", "aten.embedding_bag", "aten._embedding_bag")


@dataclass(frozen=True)
class Lookup:
    """One reading of a table by IDs.

    Attributes:
        node: The operator.
        table: The table's node.
        index: The node that holds the rows to read.
        name: The table's parameter or buffer; empty if it is computed.
        rows: How many rows the table has.
        wraps: Whether a negative row counts from the table's end; else it is an error.
        features: The features that the index depends on.
    """

    node: Node
    table: Node
    index: Node
    name: str
    rows: int
    wraps: bool
    features: tuple[str, ...]


def find_lookups(trace: Trace, features: Mapping[Node, frozenset[str]]) -> list[Lookup]:
    """Find the operators that read a table at places that depend on features.

    Args:
        trace: The graph.
        features: What each node depends on (`optimize.diagnosis.trace.features_of`).
    """
    weights = trace.weights
    found = []
    for node in trace.operators:
        table, index = _table_and_index(node)
        if table is None or index is None or features[table] or not features[index]:
            continue
        found.append(
            Lookup(
                node=node,
                table=table,
                index=index,
                name=weights.get(table, ""),
                rows=int(table.meta["val"].shape[0]),
                wraps=operator_name(node) == "aten.index",
                features=tuple(each for each in trace.names if each in features[index]),
            )
        )
    return found


def rows_asked_for(trace: Trace, lookups: list[Lookup], columns: Columns) -> dict[Node, Tensor]:
    """Run the graph and note which rows each lookup asks its table for, within it or not.

    Args:
        trace: The graph.
        lookups: From `find_lookups`.
        columns: Every feature, ``[rows, …]``; IDs beyond a table do not stop the run.

    Returns:
        By the lookups' nodes, their index.
    """
    asked: dict[Node, Tensor] = {}
    by_node = {each.node: each for each in lookups}

    def run_node(
        node: Node, args: tuple[Any, ...], kwargs: dict[str, Any], target: Callable[..., Any]
    ) -> Any:
        lookup = by_node.get(node)
        if lookup is not None:
            index = _index_value(args)
            asked[node] = index.clone()
            args = _with_index(
                args, index.clamp(-lookup.rows if lookup.wraps else 0, lookup.rows - 1)
            )
        return target(*args, **kwargs)

    trace.run(columns, run_node)
    return asked


def beyond(lookup: Lookup, asked: Tensor) -> int | None:
    """Return a row that was asked for and that the table does not have, or None."""
    if not asked.numel():
        return None
    low, high = int(asked.min()), int(asked.max())
    if high >= lookup.rows:
        return high
    return low if low < (-lookup.rows if lookup.wraps else 0) else None


def nodes_between(trace: Trace, feature: str, lookup: Lookup) -> list[Node]:
    """Return the nodes that an ID goes through from its feature to the lookup, both ends too."""
    start = next(node for node, name in trace.inputs.items() if name == feature)
    after = {start}
    for node in trace.nodes:
        if any(each in after for each in node.all_input_nodes):
            after.add(node)
    before, waiting = set(), [lookup.index]
    while waiting:
        node = waiting.pop()
        if node not in before:
            before.add(node)
            waiting.extend(node.all_input_nodes)
    return [node for node in trace.nodes if node in after and node in before]


def with_values(columns: Columns, values: Mapping[str, int]) -> Columns:
    """Return columns in which each named feature is one value throughout."""
    return columns | {name: np.full_like(columns[name], value) for name, value in values.items()}


def _table_and_index(node: Node) -> tuple[Node | None, Node | None]:
    name = operator_name(node)
    args: tuple[Any, ...] = node.args
    if name in _EMBEDDINGS:
        return args[0], args[1]
    if name == "aten.index_select" and args[1] == 0:
        return args[0], args[2]
    if name == "aten.index" and args[1] and args[1][0] is not None:
        index = args[1][0]
        return args[0], None if _is_mask(index) else index
    return None, None


def _is_mask(node: Node) -> bool:
    return any(not each.dtype.is_signed for each in tensors(node.meta.get("val")))


def _index_value(args: tuple[Any, ...]) -> Any:
    if isinstance(args[1], list | tuple):
        return args[1][0]
    return args[2] if isinstance(args[1], int) else args[1]


def _with_index(args: tuple[Any, ...], index: Tensor) -> tuple[Any, ...]:
    if isinstance(args[1], list | tuple):
        return (args[0], [index, *args[1][1:]], *args[2:])
    if isinstance(args[1], int):
        return (*args[:2], index, *args[3:])
    return (args[0], index, *args[2:])
