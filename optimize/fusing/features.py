"""What of a graph's lookups the kernel can compute: one vector for each row of the request.

A feature is a single lookup, or a bag: rows, masked where the ID is the padding's, and summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from optimize.flat_graph import arguments, aten
from optimize.fusing.rows import Rows, find_rows
from optimize.kernels.stacked_tables import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch.fx import Node

    from optimize.flat_graph import FlatGraph

_SAMPLE = 16
_SINGLE, _BAG = 1, 2  # dimensions of the IDs
_FREE_OF_VALUES = {aten.unsqueeze.default, aten.to.dtype}


@dataclass(frozen=True, eq=False)
class Feature:
    """A vector that the kernel can give.

    Attributes:
        node: The vector, float32 ``[rows, D]``.
        rows: What it is made of.
        length: L, of its bag; 1 of a single ID.
        empty: The ID of an empty place, or `NOTHING`.
        long: Whether the IDs are int64, as the kernel takes them.
    """

    node: Node
    rows: Rows
    length: int
    empty: int
    long: bool

    @property
    def operators(self) -> int:
        """How many are no longer needed if the kernel gives the vector."""
        return self.rows.operators + (_OF_A_BAG if self.rows.node is not self.node else 0)


_OF_A_BAG = 2


def find_features(graph: FlatGraph) -> tuple[list[Feature], dict[str, str]]:
    """Find what can be fused, each table alone.

    Returns:
        The features in the graph's order; and why other lookups are left, by the table's name.
    """
    values = graph.run(graph.sample(_SAMPLE))
    rows, left = find_rows(graph, values)
    features = []
    for each in rows:
        made = _feature(each, values)
        if isinstance(made, str):
            left[each.name] = made
        else:
            features.append(made)
    while True:  # what is left reads its table too
        reasons = {each: _read_otherwise(graph, each, features) for each in features}
        left |= {each.rows.name: why for each, why in reasons.items() if why}
        kept = [each for each in features if not reasons[each]]
        if len(kept) == len(features):
            return features, left
        features = kept


def _feature(rows: Rows, values: Mapping[Node, Any]) -> Feature | str:
    ids = values[rows.ids]
    if ids.dim() not in {_SINGLE, _BAG} or len(ids) != _SAMPLE:
        return "its IDs are not one row for each candidate or user"
    if bool((ids < 0).any()):
        return "negative IDs, which count from the end"
    long = ids.dtype == torch.int64
    if ids.dim() == _SINGLE:
        return Feature(rows.node, rows, 1, NOTHING, long)
    bag = _bag(rows, values)
    if bag is None:
        return "a sequence of rows that is read as such, or weighted"
    return Feature(bag[0], rows, ids.shape[1], bag[1], long)


def _bag(rows: Rows, values: Mapping[Node, Any]) -> tuple[Node, int] | None:
    """Return what sums the places of ``[rows, L, D]`` up, and the ID that it leaves out."""
    empty = NOTHING
    if len(rows.node.users) != 1:
        return None
    (user,) = rows.node.users
    if user.target is aten.mul.Tensor:
        masks = [each for each in user.args if each is not rows.node]
        padding = _padding(masks[0], rows.ids) if len(masks) == 1 else None
        if padding is None or len(user.users) != 1:
            return None
        empty = padding
        (user,) = user.users
    return (user, empty) if _sums_places(user, values) else None


def _sums_places(node: Node, values: Mapping[Node, Any]) -> bool:
    if node.target is not aten.sum.dim_IntList:
        return False
    given = arguments(node)
    rank = values[given["self"]].dim()
    return [each % rank for each in given["dim"]] == [1] and not given["keepdim"]


def _padding(mask: Any, ids: Node) -> int | None:
    """Return the ID where a mask ``[rows, L, 1]`` is 0, if it is 1 for all others."""
    steps = 0
    while isinstance(mask, torch.fx.Node) and mask.target in _FREE_OF_VALUES:
        if mask.target is aten.unsqueeze.default:
            steps += 1
            if mask.args[1] not in {-1, 2}:
                return None
        mask = mask.args[0]
    compared = isinstance(mask, torch.fx.Node) and mask.target is aten.ne.Scalar
    if not compared or mask.args[0] is not ids or steps != 1:
        return None
    return int(mask.args[1])


def _read_otherwise(graph: FlatGraph, feature: Feature, features: list[Feature]) -> str:
    """Say what else reads a feature's table; empty if nothing does."""
    table = feature.rows.table
    held = {each.data_ptr() for each in (table.data, table.levels) if each is not None}
    fused = {node for each in features for node in each.rows.lookups}
    for node in graph.module.graph.find_nodes(op="get_attr"):
        value = graph.held(node)
        if value is None or value.data_ptr() not in held:
            continue
        for user in node.users:
            if user not in fused:
                return f"read by {user.target} too: stacked, it would be held twice"
    return ""
